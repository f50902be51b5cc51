"""A main loop that is turned by hand: timers end when they are told to."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

from modulus.agent.loop import Cancel, Loop

with warnings.catch_warnings():
    # Once, or every process of these tests would import it anew.
    warnings.simplefilter("ignore", ImportWarning)
    from gi.repository import GLib


def turn() -> None:
    """Has GLib call back for all that has happened."""
    context = GLib.MainContext.default()
    while context.pending():
        context.iteration(False)


def run_until(found: Callable[[], object], what: str = "it") -> None:
    """Runs GLib's main loop until ``found``; fails if that takes ten seconds."""
    deadline = time.monotonic() + 10
    while not found():
        assert time.monotonic() < deadline, f"{what} never came"
        if not GLib.MainContext.default().iteration(False):
            time.sleep(0.005)


class HandLoop(Loop):
    """The loop, with its timers in ``waiting``."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], object]] = []

    def after(self, seconds: float, callback: Callable[[], object]) -> Cancel:
        def cancel() -> None:
            if callback in self.waiting:
                self.waiting.remove(callback)

        self.waiting.append(callback)
        return cancel

    def turn(self) -> None:
        """Lets all happen that is due, all timers included."""
        turn()
        while self.waiting:
            self.waiting.pop(0)()
            turn()
