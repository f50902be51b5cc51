"""One child at a time, so that two pieces of work never race."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Literal

from modulus.agent.loop import Loop

Work = Literal["repair", "build", "up"]

REPAIR: Work = "repair"
"""A quick look at nodes, links and files around a driver that is loaded."""
BUILD: Work = "build"
"""A build into the store only."""
UP: Work = "up"
"""All that the driver needs to work, a build included."""

_ORDER = (REPAIR, BUILD, UP)
"""A later one does what an earlier one would, as far as that is still wanted then."""


class JobQueue:
    """Runs one work at a time; of those asked for meanwhile, the most thorough comes next.

    ``start`` starts a child and returns its pid. ``ended`` gets each child's exit code,
    negative for a signal. It is not called where work as thorough comes next: that child's
    code counts.
    """

    def __init__(
        self,
        loop: Loop,
        start: Callable[[Work], int],
        ended: Callable[[Work, int], object],
    ) -> None:
        self._loop = loop
        self._start = start
        self._ended = ended
        self._pid: int | None = None
        self._next: Work | None = None
        self.running: Work | None = None

    def ask(self, work: Work) -> bool:
        """Runs ``work`` now, or as soon as it can; False if the next child does it anyway."""
        if self.running is None:
            self._run(work)
            return True
        if self._next and _ORDER.index(self._next) >= _ORDER.index(work):
            return False
        self._next = work
        return True

    def forget(self) -> None:
        """Drops the work that was asked for and does not run yet."""
        self._next = None

    def terminate(self) -> bool:
        """Asks the child to clean up and end; False where none runs."""
        self.forget()
        if self._pid is None:
            return False
        os.kill(self._pid, signal.SIGTERM)
        return True

    def _run(self, work: Work) -> None:
        pid = self._start(work)
        self._loop.child(pid, lambda code: self._over(work, code))
        # Only now: a child that could not be started does not run.
        self.running, self._pid = work, pid

    def _over(self, work: Work, code: int) -> None:
        self.running = self._pid = None
        if self._next is None or _ORDER.index(self._next) < _ORDER.index(work):
            self._ended(work, code)
        following, self._next = self._next, None
        if following and self.running is None:
            self._run(following)
        elif following:
            self.ask(following)
