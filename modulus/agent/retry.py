"""The time between a failure and the next try."""

from __future__ import annotations

from collections.abc import Callable

from modulus.agent.failure_record import FailureRecord
from modulus.agent.loop import Cancel, Loop
from modulus.core.agent.backoff import Backoff


class Retry:
    """Counts failures in a row and calls ``again`` after a pause that grows with them.

    ``hurry`` cuts the pause short, and so does a change of ``inputs``, which is looked at every
    ``poll`` seconds.
    """

    def __init__(
        self,
        loop: Loop,
        record: FailureRecord,
        inputs: Callable[[], str],
        again: Callable[[], object],
        *,
        backoff: Backoff,
        poll: float,
        clock: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._record = record
        self._inputs = inputs
        self._again = again
        self._backoff = backoff
        self._poll = poll
        self._clock = clock
        self._timer: Cancel | None = None
        self._earliest = self._due = 0.0

    def failed(self, code: int) -> tuple[float, int]:
        """Notes a failure with exit ``code``: the pause in seconds, and how many in a row."""
        self._of = self._inputs()
        count = self._record.failed(self._of)
        now = self._clock()
        delay = self._backoff.delay(count, code)
        self._earliest, self._due = now + min(delay, self._backoff.first), now + delay
        return delay, count

    def wait(self, show: Callable[[float], object]) -> None:
        """Waits for the next try; ``show`` gets the seconds that are left, at every look."""
        left = self._due - self._clock()
        if left <= 0 or self._inputs() != self._of:
            self.rest()
            self._again()
            return
        show(left)
        pause = min(left, self._poll)
        self._rest(self._loop.after(pause, lambda: self.wait(show)))

    def hurry(self) -> None:
        """Tries sooner, as the cause may be gone, but not before the first pause is over."""
        if self._timer:
            left = max(0.0, min(self._earliest, self._due) - self._clock())
            self._rest(self._loop.after(left, self._now))

    def succeeded(self) -> None:
        """Forgets the failures: it works again."""
        self.rest()
        self._record.clear()

    def rest(self) -> None:
        """Stops waiting."""
        self._rest(None)

    def _now(self) -> None:
        self.rest()
        self._again()

    def _rest(self, timer: Cancel | None) -> None:
        """Replaces the running timer with ``timer``, None for no timer."""
        if self._timer:
            self._timer()
        self._timer = timer
