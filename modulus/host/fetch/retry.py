"""Retries failures that may pass, at growing intervals, a limited number of times."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from modulus.core.agent.backoff import doubled
from modulus.host.fetch.failure import Kind, TransferError
from modulus.host.report.reporter import Reporter

_T = TypeVar("_T")
_PROGRESS = 1 << 20


@dataclass(frozen=True)
class Pace:
    """How often to try in a row; the first and the longest pause between, in seconds."""

    tries: int = 5
    first: float = 1
    longest: float = 30
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def again(
        self,
        action: Callable[[], _T],
        reporter: Reporter,
        reached: Callable[[], int] = lambda: 0,
    ) -> _T:
        """Does ``action`` until it succeeds, fails for good, or fails too often in a row.

        A try that got 1 MiB further than any before, by ``reached``, starts the count anew.
        Raises the last TransferError.
        """
        count, furthest = 0, reached()
        while True:
            try:
                return action()
            except TransferError as caught:
                error = caught
            # Outside the handler, or later errors would have this one in their chain.
            count = 1 if reached() >= furthest + _PROGRESS else count + 1
            furthest = max(furthest, reached())
            if error.kind is not Kind.PASSING or count >= self.tries:
                raise error
            self.pause(count, error, reporter)

    def pause(self, count: int, error: TransferError, reporter: Reporter) -> None:
        """Waits after the ``count``-th failure in a row: as the server asks, or doubling.

        The pause is random in part, so that a cluster's nodes do not come all at once.
        """
        delay = doubled(self.first, count, self.longest)
        delay *= random.SystemRandom().uniform(0.5, 1)
        delay = max(delay, min(error.retry_after, self.longest))
        reporter.phase("fetch", f"{error.cause}; again in {delay:.0f} s")
        self.sleep(delay)
