"""A main loop: timers, signals, files to read and children that end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

Cancel = Callable[[], None]


class Loop:
    """GLib's main loop, which D-Bus needs, run until ``end``.

    What a callback raises ends the loop and is raised by ``run``; GLib would go on.
    """

    def __init__(self) -> None:
        self._code = 0
        self._error: BaseException | None = None
        self._cancels: list[Cancel] = []

    @cached_property
    def _glib(self) -> Any:
        # Once it is needed: its import takes 60 ms, in which a child may begin to work.
        from gi.repository import GLib

        return GLib

    @cached_property
    def _loop(self) -> Any:
        return self._glib.MainLoop()

    def run(self) -> int:
        """Runs until the end and returns the code given to it."""
        try:
            self._loop.run()
        finally:
            while self._cancels:
                self._cancels[-1]()
        if self._error is not None:
            raise self._error
        return self._code

    def end(self, code: int) -> None:
        """Has ``run`` return ``code``."""
        self._code = code
        self._loop.quit()

    def after(self, seconds: float, callback: Callable[[], object]) -> Cancel:
        """Calls ``callback`` once."""

        def once() -> None:
            cancel()
            callback()

        cancel = self._source(self._glib.timeout_add(round(seconds * 1000), self._guard(once)))
        return cancel

    def every(self, seconds: float, callback: Callable[[], object]) -> Cancel:
        """Calls ``callback`` again and again."""
        milliseconds = max(1, round(seconds * 1000))
        return self._source(self._glib.timeout_add(milliseconds, self._guard(callback)))

    def readable(self, handle: int, callback: Callable[[], object]) -> Cancel:
        """Calls ``callback`` whenever there is something to read from ``handle``."""
        glib = self._glib
        return self._source(
            glib.unix_fd_add_full(
                glib.PRIORITY_DEFAULT, handle, glib.IOCondition.IN, self._guard(callback)
            )
        )

    def child(self, pid: int, callback: Callable[[int], object]) -> None:
        """Calls ``callback`` with the exit status of ``pid``, negative for a signal."""
        handle = os.pidfd_open(pid)

        def ended() -> None:
            cancel()
            os.close(handle)
            callback(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

        cancel = self.readable(handle, ended)

    def on_signals(self, numbers: Iterable[int], callback: Callable[[], object]) -> None:
        """Calls ``callback`` for these signals, whatever was to be done about them before."""
        for number in numbers:
            # Or PyGObject would take SIGINT for itself.
            signal.signal(number, signal.SIG_DFL)
            glib = self._glib
            self._source(
                glib.unix_signal_add(glib.PRIORITY_HIGH, number, self._guard(callback))
            )

    def _guard(self, callback: Callable[[], object]) -> Callable[..., bool]:
        def guarded(*_: object) -> bool:
            try:
                callback()
            except BaseException as error:
                self._error = error
                self._loop.quit()
            return True

        return guarded

    def _source(self, number: int) -> Cancel:
        def cancel() -> None:
            if cancel in self._cancels:
                self._cancels.remove(cancel)
                self._glib.source_remove(number)

        self._cancels.append(cancel)
        return cancel
