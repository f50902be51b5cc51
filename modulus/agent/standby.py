"""The role of an instance that is not selected: its driver is built, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from modulus.agent.failures import how
from modulus.agent.job_queue import BUILD, JobQueue
from modulus.agent.loop import Cancel, Loop
from modulus.agent.show.instance_status import InstanceStatus
from modulus.agent.task import Task
from modulus.core.agent.backoff import PERMANENT
from modulus.core.instance import Instance
from modulus.core.status.text import standby_text


class Standby:
    """READY at once, so that nothing waits for it, and built when the node is calm.

    ``rested`` is called when it is built.
    """

    def __init__(
        self,
        task: Task,
        queue: JobQueue,
        loop: Loop,
        status: InstanceStatus,
        selected: Callable[[], Instance | None],
        rested: Callable[[], object],
    ) -> None:
        self._task = task
        self._queue = queue
        self._loop = loop
        self._status = status
        self._selected = selected
        self._rested = rested
        self._timer: Cancel | None = None
        self._failures = 0

    def begin(self) -> None:
        """Takes up standby: another instance is selected."""
        state = replace(
            self._status.read(),
            active=False,
            selected=False,
            progress=None,
            eta_s=None,
            findings=(),
            error=None,
        )
        self._say(None)
        self._status.enter(state, "watch")
        # Not while the other instance is brought up, or comes back.
        self._rest(self._loop.after(self._task.calm, self.work))

    def work(self) -> None:
        """Has the driver built now."""
        self._rest(None)
        self._queue.ask(BUILD)

    def ended(self, code: int) -> None:
        """Handles the end of a build, which has said itself why it failed."""
        if code == 0:
            self._failures = 0
            self._say(None)
            self._rested()
            return
        self._failures += 1
        self._say(how(code))
        if code not in PERMANENT:
            delay = self._task.backoff.delay(self._failures, code)
            self._rest(self._loop.after(delay, self.work))

    def changed(self) -> None:
        """Builds again after a failure: the inputs may have changed."""
        if self._failures:
            self.work()

    def rest(self) -> None:
        """Waits for nothing any more."""
        self._rest(None)

    def _say(self, failed: str | None) -> None:
        selected = self._selected()
        self._status.say(standby_text(str(selected) if selected else None, failed), ready=True)

    def _rest(self, timer: Cancel | None) -> None:
        """Replaces the running timer with ``timer``, None for no timer."""
        if self._timer:
            self._timer()
        self._timer = timer
