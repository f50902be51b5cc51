"""How often something may be done: at once as a rule, seldom where it does not help."""

from __future__ import annotations


class Rate:
    """At most ``most`` times within ``within`` seconds."""

    def __init__(self, most: int = 5, within: float = 60.0) -> None:
        self._most = most
        self._within = within
        self._times: list[float] = []

    def wait(self, now: float) -> float:
        """Seconds from ``now`` until it may be done, 0 for at once."""
        self._times = [time for time in self._times if now - time < self._within]
        if len(self._times) < self._most:
            return 0.0
        return self._times[0] + self._within - now

    def done(self, now: float) -> None:
        """Notes that it is done ``now``."""
        self._times = [*self._times, now][-self._most :]
