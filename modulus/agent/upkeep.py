"""The role of the selected instance: brings its driver up and keeps it right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from modulus.agent.failures import how, with_error
from modulus.agent.job_queue import REPAIR, UP, JobQueue, Work
from modulus.agent.loop import Cancel, Loop
from modulus.agent.retry import Retry
from modulus.agent.show.instance_status import InstanceStatus
from modulus.agent.task import Task
from modulus.core.agent.events import GPUS, KERNELS, WRONG, Event
from modulus.core.agent.rate import Rate
from modulus.core.status.state import Failure, State
from modulus.core.status.text import pending, pending_text, status_text
from modulus.core.wording import span
from modulus.errors import BusyError, LockedError, VerifyError
from modulus.host.report.reporter import Reporter
from modulus.host.status.reporter import EXTEND


class Upkeep:
    """Decides what follows each ``up``, each repair and each event on the node.

    An instance is *pending* while its driver cannot be loaded, since another driver works and
    is in use. Its unit is READY then, and the other driver is kept right. ``rested`` is called
    when all is done that can be.
    """

    def __init__(
        self,
        task: Task,
        queue: JobQueue,
        retry: Retry,
        loop: Loop,
        status: InstanceStatus,
        reporter: Reporter,
        clock: Callable[[], float],
        rested: Callable[[], object],
    ) -> None:
        self._task = task
        self._queue = queue
        self._retry = retry
        self._loop = loop
        self._status = status
        self._reporter = reporter
        self._clock = clock
        self._rested = rested
        self._repairs = Rate()
        self._timer: Cancel | None = None
        self._deaf: str | None = None
        self._gpus: tuple[str, ...] = ()
        self._waiting = False
        self._at_rest: State | None = None
        self._refused: Failure | None = None

    @property
    def pending(self) -> bool:
        """Whether another instance's driver is to be kept right for now."""
        return self._refused is not None

    def work(self) -> None:
        """Has a whole ``up`` run now."""
        self.rest()
        self._queue.ask(UP)

    def rest(self) -> None:
        """Waits for nothing any more."""
        self._rest(None)
        self._retry.rest()
        self._waiting, self._at_rest, self._refused = False, None, None

    def deaf(self, why: str) -> None:
        """Notes ``why`` the kernel's messages cannot be heard: GPUs are then looked for."""
        self._deaf = why

    def heard(self, event: Event) -> None:
        """Handles an event of the driver, its device nodes, its GPUs or the kernels."""
        if event.kind == GPUS and self._queue.running == UP:
            # The child may have looked for GPUs already.
            self._gpus = (*self._gpus, event.text)[-1:]
        elif self._at_rest:
            if event.kind != KERNELS:
                self._repair(event.text)
        elif self._waiting:
            if event.kind == GPUS:
                self._reporter.phase("wait", event.text)
                self._rest(self._loop.after(self._task.settle, self.work))
        elif event.kind != WRONG:
            self._retry.hurry()

    def ended(self, work: Work, code: int) -> None:
        """Handles the end of a child that did not fail for good."""
        gpus, self._gpus = self._gpus, ()
        if work == REPAIR:
            self._repaired(code)
        elif code == 0:
            self._succeeded(gpus)
        elif code == BusyError.code:
            # The driver in use may be one that works: then there is time.
            _, self._refused = with_error(self._status.read(), code)
            self._queue.ask(REPAIR)
        else:
            self._failed(code)

    def _succeeded(self, gpus: tuple[str, ...]) -> None:
        state = replace(self._status.read(active=True), error=None)
        # A child that ended in ``wait`` waits for a GPU: the agent watches for it.
        waiting = state.phase in ("wait", None)
        phase = "wait" if waiting else "watch"
        # First: whatever becomes of our own files, the driver is there.
        self._status.say(status_text(replace(state, phase=phase)), ready=True)
        self._retry.succeeded()
        self.rest()
        state = self._status.enter(state, phase)
        if waiting:
            self._waiting = True
            self._await_gpu()
            for text in gpus:
                self.heard(Event(GPUS, text))
        else:
            self._at_rest = state
        self._rested()

    def _await_gpu(self) -> None:
        if self._deaf is None:
            self._reporter.phase("wait", "for a GPU to be plugged in")
            return
        self._status.warn_once(
            "the kernel does not tell when a GPU is plugged in: looked for every "
            f"{span(self._task.census)}",
            f" ({self._deaf})",
        )
        self._rest(self._loop.after(self._task.census, self.work))

    def _failed(self, code: int) -> None:
        """Waits, ever longer, for time to pass or for something to change."""
        self._queue.forget()
        delay, count = self._retry.failed(code)
        state, error = with_error(self._status.read(), code)
        cause = error.message.partition("\n")[0]
        if code < 0:
            # A killed child could not say so itself.
            self._reporter.error(f"modulus: error: {cause}")
            self._reporter.error(f"modulus: hint: {error.hint}")
        self._reporter.phase(
            "wait",
            f"{span(delay)} before the next try ({count} failed), less if settings, profiles "
            "or kernels change",
        )

        def show(left: float) -> None:
            self._status.enter(replace(state, eta_s=left), "wait")
            self._status.say(
                f"wait: {span(left)} to the next try, for {cause}",
                extend=self._task.poll + EXTEND,
            )

        self._retry.wait(show)

    def _pending(self, refused: Failure) -> None:
        """Waits while another driver is in use and works: this one has time."""
        state = pending(self._status.read(), refused)
        self._status.say(pending_text(refused), ready=True)
        self._at_rest = self._status.enter(state, "watch")
        self._rested()
        if self._task.waits():
            self._retry.failed(BusyError.code)
            self._retry.wait(lambda _: None)

    def _repair(self, why: str) -> None:
        """Has the driver repaired now, or later where several repairs have not helped."""
        delay = self._repairs.wait(self._clock())
        if delay > 0:
            self._rest(self._loop.after(delay, lambda: self._repair(why)))
            return
        self._rest(None)
        if self._queue.ask(REPAIR):
            self._repairs.done(self._clock())
            if why:
                self._reporter.phase("watch", why)

    def _repaired(self, code: int) -> None:
        refused = self._refused
        if refused and self._at_rest is None:
            if code == 0:
                self._pending(refused)
            else:
                self._refused = None
                self._failed(refused.code)
        elif code == 0:
            self._put_back()
        elif code == VerifyError.code:
            # A repair is not enough.
            self.work()
        elif code == LockedError.code:
            self._put_back()
            self._rest(self._loop.after(self._task.backoff.first, lambda: self._repair("")))
        else:
            self._put_back()
            self._reporter.warn(
                f"the repair ended with {how(code)}; it is tried again when there is a reason"
            )

    def _put_back(self) -> None:
        """Shows the state from before the repair again: it still holds."""
        if self._at_rest:
            self._status.write(self._at_rest)
        self._status.again()

    def _rest(self, timer: Cancel | None) -> None:
        """Replaces the running timer with ``timer``, None for no timer."""
        if self._timer:
            self._timer()
        self._timer = timer
