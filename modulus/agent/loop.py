"""A main loop: timers, signals, files to read and children that end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

Cancel = Callable[[], None]

_MOST_SECONDS = (2**32 - 1) // 1000
"""The longest that GLib waits, seven weeks."""


class Loop:
    """GLib's main loop, which D-Bus needs, run until ``end``.

    An exception of a callback, given to a method below or to GLib itself, ends the loop, and
    ``run`` raises it; GLib would go on. ``survive`` has a handler decide.
    """

    def __init__(self) -> None:
        self._code = 0
        self._error: BaseException | None = None
        self._cancels: list[Cancel] = []
        self._trouble: Callable[[Exception], object] | None = None

    @cached_property
    def _glib(self) -> Any:
        # On first use: its import takes 60 ms, in which a child may begin to work.
        from gi.repository import GLib

        return GLib

    @cached_property
    def _loop(self) -> Any:
        return self._glib.MainLoop()

    def run(self) -> int:
        """Runs until the end and returns the code given to it."""
        hook, sys.excepthook = sys.excepthook, self._uncaught
        try:
            self._loop.run()
        finally:
            sys.excepthook = hook
            while self._cancels:
                self._cancels[-1]()
        if self._error is not None:
            raise self._error
        return self._code

    def end(self, code: int) -> None:
        """Has ``run`` return ``code``."""
        self._code = code
        self._loop.quit()

    def survive(self, trouble: Callable[[Exception], object]) -> None:
        """Has ``trouble`` get a callback's exception; the loop goes on unless it raises."""
        self._trouble = trouble

    def after(self, seconds: float, callback: Callable[[], object]) -> Cancel:
        """Calls ``callback`` once, after ``seconds``, seven weeks at most."""

        def once() -> None:
            cancel()
            callback()

        milliseconds = round(min(max(seconds, 0), _MOST_SECONDS) * 1000)
        cancel = self._source(self._glib.timeout_add(milliseconds, self._guard(once)))
        return cancel

    def at_rest(self, callback: Callable[[], object]) -> Cancel:
        """Calls ``callback`` once, when all that is due has had its turn."""

        def once() -> None:
            cancel()
            callback()

        glib = self._glib
        cancel = self._source(glib.idle_add(self._guard(once), priority=glib.PRIORITY_LOW))
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
        """Calls ``callback`` for these signals, in place of any earlier handler."""
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
                self._raised(error)
            return True

        return guarded

    def _uncaught(
        self, _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        """Takes the exception of a callback that was given to GLib itself."""
        self._raised(error)

    def _raised(self, error: BaseException) -> None:
        if self._trouble and isinstance(error, Exception):
            try:
                self._trouble(error)
                return
            except BaseException as worse:
                error = worse
        self._error = error
        self._loop.quit()

    def _source(self, number: int) -> Cancel:
        def cancel() -> None:
            if cancel in self._cancels:
                self._cancels.remove(cancel)
                self._glib.source_remove(number)

        self._cancels.append(cancel)
        return cancel
