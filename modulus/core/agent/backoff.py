"""When to try again after a failure: which failures pass, and how long to wait."""

from __future__ import annotations

from dataclasses import dataclass

from modulus.errors import BusyError, FetchError, LockedError

PERMANENT = frozenset({2, 10, 12, 15, 16, 18, 21})
"""Exit codes of failures that stay until somebody changes something; the unit's
``RestartPreventExitStatus=`` has the same."""

_DOUBLINGS = 64
"""Enough for any wait that anyone sets; no float holds 1,024 doublings."""


def doubled(first: float, failures: int, longest: float) -> float:
    """``first`` seconds after one failure, twice as long after each more, up to ``longest``.

    ``failures`` may be any number; one below 1 counts as 1.
    """
    doublings = min(max(failures, 1) - 1, _DOUBLINGS)
    return min(longest, first * 2.0**doublings)


@dataclass(frozen=True)
class Backoff:
    """Waits in seconds: ``first``, then twice as long each time, up to ``longest``."""

    first: float = 10.0
    longest: float = 3600.0
    longest_fetch: float = 300.0

    def delay(self, failures: int, code: int) -> float:
        """Seconds to wait after the ``failures``-th failure in a row, with exit ``code``.

        A lock, whose holder is at work, always gets the shortest wait. Nothing tells when a
        network is back or a driver is let go: both are tried more often than a build.
        """
        if code == LockedError.code:
            return self.first
        untold = code in (FetchError.code, BusyError.code)
        longest = self.longest_fetch if untold else self.longest
        return doubled(self.first, failures, longest)
