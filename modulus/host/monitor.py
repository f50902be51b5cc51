"""Watches folders from GLib's main loop, also those that are not there yet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from modulus.host.inotify import Inotify, Notice

_Listener = Callable[[Notice], None]


class FolderMonitor:
    """Tells what changes in one folder, until it is closed.

    ``tell`` gets the name of what came, went, was replaced, or has another owner, mode or time
    (touch(1)) in ``folder``; what is written into a file that stays is not told. It gets an
    empty name where any may have changed: when the folder comes or goes, and when messages
    were lost. Several changes at once are told one by one. It is called by GLib's main loop.

    Only for that is there ever a wake-up: while the folder is missing the nearest one above
    it is watched. Raises OSError where the kernel's limits allow no more watches.
    """

    _shared: ClassVar[_Hub | None] = None

    def __init__(self, folder: Path, tell: Callable[[str], object]) -> None:
        self._folder = folder
        self._tell = tell
        self._at: Path | None = None
        self._watch = -1
        self._arm()

    def close(self) -> None:
        """Ends it; a second time is fine."""
        self._drop()
        self._at = None

    def _arm(self) -> None:
        """Watches the folder, or of those above it the first that is there."""
        hub = FolderMonitor._shared = FolderMonitor._shared or _Hub()
        at = self._folder
        while True:
            try:
                watch = hub.add(at, self._noticed)
            except (FileNotFoundError, NotADirectoryError):
                at = at.parent
                continue
            except BaseException:
                self._drop()
                hub.close_unused()
                raise
            # The old one goes last, or the queue that both share would be closed between.
            self._drop()
            self._at, self._watch = at, watch
            if at == self._folder or not (at / self._next(at)).is_dir():
                return
            # It was made before there was a watch to tell so.
            at = self._folder

    def _drop(self) -> None:
        if self._at is not None and FolderMonitor._shared:
            FolderMonitor._shared.remove(self._watch, self._noticed)

    def _next(self, at: Path) -> str:
        """What in ``at`` leads to the folder."""
        return self._folder.parts[len(at.parts)]

    def _noticed(self, notice: Notice) -> None:
        at = self._at
        if at is None:
            return
        lost = notice.watch is None
        if at != self._folder:
            if notice.gone or lost or notice.name == self._next(at):
                self._arm()
                if self._at == self._folder:
                    self._tell("")
        elif notice.gone:
            self._arm()
            self._tell("")
        elif notice.name or lost:
            self._tell(notice.name)


class _Hub:
    """One queue for all: a user may have few of them, inotify(7), max_user_instances."""

    def __init__(self) -> None:
        from gi.repository import GLib

        self._queue = Inotify()
        self._listeners: dict[int, list[_Listener]] = {}
        self._glib = GLib
        self._source = GLib.unix_fd_add_full(
            GLib.PRIORITY_DEFAULT, self._queue.fileno(), GLib.IOCondition.IN, self._ready
        )

    def add(self, folder: Path, listener: _Listener) -> int:
        """Has ``listener`` told about ``folder``, as the number that is returned."""
        watch = self._queue.watch(folder)
        self._listeners.setdefault(watch, []).append(listener)
        return watch

    def remove(self, watch: int, listener: _Listener) -> None:
        listeners = self._listeners.get(watch, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners and self._listeners.pop(watch, None) is not None:
            self._queue.unwatch(watch)
        self.close_unused()

    def close_unused(self) -> None:
        """Ends the queue once nobody listens."""
        if not self._listeners and FolderMonitor._shared is self:
            FolderMonitor._shared = None
            self._glib.source_remove(self._source)
            self._queue.close()

    def _ready(self, *_: object) -> bool:
        for notice in tuple(self._queue.take()):
            known = self._listeners.values() if notice.watch is None else ()
            told = [one for listeners in known for one in listeners]
            for listener in told or tuple(self._listeners.get(notice.watch or 0, ())):
                try:
                    listener(notice)
                except Exception:
                    # GLib would take it for the end of the watching.
                    sys.excepthook(*sys.exc_info())
        return FolderMonitor._shared is self
