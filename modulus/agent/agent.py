"""Decides what the agent does: at the start, after each child, at each event, on signals."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Protocol

from modulus.agent.failure_record import FailureRecord
from modulus.agent.failures import with_error
from modulus.agent.job_queue import BUILD, REPAIR, UP, JobQueue, Work
from modulus.agent.loop import Cancel, Loop
from modulus.agent.own_role import OwnRole
from modulus.agent.retry import Retry
from modulus.agent.show.instance_status import InstanceStatus
from modulus.agent.standby import Standby
from modulus.agent.task import Task
from modulus.agent.upkeep import Upkeep
from modulus.core.agent.backoff import PERMANENT
from modulus.core.agent.events import GPUS, KERNELS, MODULES, WRONG, Event, EventSource
from modulus.core.agent.rate import Rate
from modulus.core.agent.role import STANDBY
from modulus.core.status.text import status_text, stopped
from modulus.core.wording import span
from modulus.errors import FallbackError, ModulusError
from modulus.host.process.spawn import spawn
from modulus.host.report.reporter import Reporter

_LOW = 19
"""The niceness of work that nobody waits for."""


class SpareTime(Protocol):
    """What is done beside the agent's own work while there is time for it."""

    def look(self) -> object:
        """Begins what there is to do; called when the agent is at rest, or asked for all."""

    def give_way(self) -> object:
        """Ends what may hinder a child that begins."""


class Agent:
    """One queue of work, so that two events never race, and the agent's role."""

    def __init__(
        self,
        task: Task,
        loop: Loop,
        status: InstanceStatus,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task = task
        self._loop = loop
        self._status = status
        self._reporter = reporter
        self._clock = clock
        self._spare: SpareTime | None = None
        self._stopping = self._fallen = False
        self._bugs = Rate()
        self._count = 0
        self._anew: Cancel | None = None
        self._role = OwnRole(task.root, task.instance, task.at_boot, status.complain)
        self._queue = JobQueue(loop, self._start, self._ended)
        record = FailureRecord(task.root, str(task.instance), status.complain)
        retry = Retry(
            loop,
            record,
            task.inputs,
            self._work,
            backoff=task.backoff,
            poll=task.poll,
            clock=clock,
        )
        self._upkeep = Upkeep(
            task, self._queue, retry, loop, status, reporter, clock, self._rested
        )
        self._standby = Standby(
            task, self._queue, loop, status, lambda: self._role.selected, self._rested
        )

    def attach(self, spare: SpareTime) -> None:
        """Takes ``spare``, which loads after the first child has begun."""
        self._spare = spare

    def run(
        self, watchdog: float | None, sources: Callable[[], Iterable[EventSource]] = tuple
    ) -> int:
        """Runs until told to end, or until nothing is left to try; returns an exit code.

        ``watchdog`` is in seconds: the loop tells systemd that often that it runs, each time
        after all that is due.
        ``sources`` is called once the first child runs, and returns the sources of events.
        """
        ending, again = (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP,)
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*ending, *again))
        started: list[EventSource] = []
        try:
            # First, so that the first child does not wait until the loop is set up.
            warning = self._role.begin()
            if warning:
                self._reporter.warn(warning)
            self._play()
            self._loop.survive(self._trouble)
            self._loop.on_signals(ending, self._stop)
            self._loop.on_signals(again, self.again)
            for source in sources():
                started.append(source)
                source.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        if watchdog is not None:
            # Only after all due callbacks had their turn, or nobody would see them starve.
            self._loop.every(watchdog, lambda: self._loop.at_rest(self._status.alive))
        try:
            return self._loop.run()
        finally:
            for source in reversed(started):
                source.stop()

    def tell(self, event: Event) -> None:
        """Handles ``event``."""
        if self._stopping:
            return
        # Every event is for the instance that is selected now.
        self._look()
        if event.kind == KERNELS and self._stands_by:
            self._standby.changed()
        elif event.kind in (WRONG, MODULES, GPUS, KERNELS) and not self._stands_by:
            self._upkeep.heard(event)

    def again(self) -> None:
        """Looks at everything once more: on SIGHUP, or when somebody asks for it."""
        if not self._stopping:
            self._work()
            self._rested()

    def verify(self) -> None:
        """Has the driver, or its build, checked and put right."""
        if not self._stopping:
            self._work()

    def deaf(self, why: str) -> None:
        """Notes ``why`` the kernel's messages cannot be heard."""
        self._upkeep.deaf(why)

    @property
    def stopping(self) -> bool:
        """Whether it ends, as soon as its child has."""
        return self._stopping

    @property
    def at_work(self) -> bool:
        """Whether a child builds or starts the driver; a quick look at it does not count."""
        return self._queue.running in (BUILD, UP)

    @property
    def _stands_by(self) -> bool:
        return self._role.now == STANDBY

    def _work(self) -> None:
        if self._stands_by:
            self._standby.work()
        else:
            self._upkeep.work()

    def _look(self) -> bool:
        """Takes the role that the selection asks for now; whether that is a new one."""
        if not self._role.look():
            return False
        self._reporter.phase("watch", f"{self._role.selected} is selected now")
        self._play()
        return True

    def _play(self) -> None:
        """Begins the present role."""
        self._queue.forget()
        self._upkeep.rest()
        self._standby.rest()
        if not self._stands_by:
            self._upkeep.work()
        elif self._queue.running != UP:
            self._standby.begin()

    def _rested(self) -> None:
        if self._spare:
            self._spare.look()

    def _start(self, work: Work) -> int:
        if work != REPAIR and self._spare:
            self._spare.give_way()
        nice = _LOW if work == BUILD else 0
        command = self._task.command(work, pending=work == REPAIR and self._upkeep.pending)
        return spawn(command, env=self._task.env, nice=nice)

    def _ended(self, work: Work, code: int) -> None:
        if self._stopping:
            self._end()
            return
        fallen, self._fallen = self._fallen, code == FallbackError.code
        if self._fallen and not fallen and self._role.is_selected():
            # Another generation of this instance works now, and is to be kept right.
            self._upkeep.work()
        elif work == UP and code in PERMANENT:
            state, _ = with_error(self._status.read(), code)
            state = self._status.enter(state, "failed")
            # Said again: systemd drops the last words of a process that is gone already.
            self._status.say(status_text(state))
            # After a fallback another instance is selected; only a person starts this unit now.
            self._stopping = True
            self._role.forget()
            self._loop.end(code)
        elif self._look():
            # The child itself has changed what is selected, and the new role has begun.
            return
        elif not self._stands_by:
            if work != BUILD:
                self._upkeep.ended(work, code)
        elif work == BUILD:
            self._standby.ended(code)
        else:
            self._standby.begin()

    def _trouble(self, error: Exception) -> None:
        """Goes on after the unforeseen ``error``, while such errors are few.

        The work that it cut short is made up for by doing everything, a while later.
        """
        now = self._clock()
        if self._stopping or self._bugs.wait(now) > 0:
            raise error
        self._bugs.done(now)
        self._count += 1
        delay = self._task.backoff.delay(self._count, ModulusError.code)
        self._reporter.error("".join(traceback.format_exception(error)))
        text = f"modulus: error: {type(error).__name__}: {error}"
        self._reporter.error(text.splitlines()[0])
        self._reporter.error(
            "modulus: hint: this is a bug, report it with the lines above; the agent goes on, "
            f"and looks at everything in {span(delay)}"
        )
        if self._anew:
            self._anew()
        self._anew = self._loop.after(delay, self.again)

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._status.say("stopping; the driver stays as it is", stopping=True)
        self._upkeep.rest()
        self._standby.rest()
        if self._stands_by and self._task.stopped():
            self._role.forget()
        if not self._queue.terminate():
            self._end()

    def _end(self) -> None:
        self._status.write(stopped(self._status.read()))
        self._loop.end(0)
