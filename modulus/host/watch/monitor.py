"""Watches folders from GLib's main loop, also those that are not there yet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from modulus.host.watch.inotify import Inotify, Notice

_MANY = 50
"""So many messages within a second are a flood."""
_PAUSE = 250
"""Milliseconds from a part of a flood to the next."""

_Listener = Callable[[Notice], None]


class FolderMonitor:
    """Tells what changes in one folder, until it is closed.

    GLib's main loop calls ``tell`` with each name in ``folder`` that came, went, was replaced,
    or has another owner, mode or time (touch(1)); writes to a file are not told. The name is
    empty where any may have changed: when the folder comes or goes, and when messages were
    lost. Several changes at once are told one by one, equal ones once.

    Nothing else causes a wake-up: while the folder is missing the nearest one above it is
    watched. Raises OSError where the kernel's limits allow no more watches.

    All monitors of one ``queue`` lose messages together: a folder in which any user can cause
    any number of messages wants a queue of its own.
    """

    _queues: ClassVar[dict[str, _Hub]] = {}

    def __init__(self, folder: Path, tell: Callable[[str], object], queue: str = "") -> None:
        self._folder = folder
        self._queue = queue
        self._tell = tell
        self._at: Path | None = None
        self._watch = -1
        self._arm()

    def close(self) -> None:
        """Ends the watch; a second call is fine."""
        self._drop()
        self._at = None

    def _arm(self) -> None:
        """Watches the folder, or the nearest one above it that is there."""
        hub = self._queues.get(self._queue)
        if hub is None:
            hub = self._queues[self._queue] = _Hub()
        at = self._folder
        while True:
            try:
                watch = hub.add(at, self._noticed)
            except (FileNotFoundError, NotADirectoryError):
                at = at.parent
                continue
            except BaseException:
                self._drop()
                self._close_unused()
                raise
            # The old watch goes last, or the queue that both share would be closed between.
            self._drop()
            self._at, self._watch = at, watch
            if at == self._folder or not (at / self._next(at)).is_dir():
                return
            # The next folder was made before there was a watch to tell so.
            at = self._folder

    def _drop(self) -> None:
        hub = self._queues.get(self._queue)
        if self._at is not None and hub:
            hub.remove(self._watch, self._noticed)
            self._close_unused()

    def _close_unused(self) -> None:
        hub = self._queues.get(self._queue)
        if hub and not hub.used:
            del self._queues[self._queue]
            hub.close()

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
    """One queue for many monitors: a user may have few, inotify(7), max_user_instances.

    Any user can cause messages without end, such as by touch(1) of /dev/null, many at a time or
    one after another. So the hub pauses while there is a flood; the kernel holds few messages,
    and tells when it has lost some.
    """

    def __init__(self) -> None:
        from gi.repository import GLib

        self._queue = Inotify()
        self._listeners: dict[int, list[_Listener]] = {}
        self._glib = GLib
        self._open = True
        self._since, self._count = time.monotonic(), 0
        self._source = self._listen()

    @property
    def used(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def add(self, folder: Path, listener: _Listener) -> int:
        """Has ``listener`` told about ``folder``; returns the number of the watch."""
        watch = self._queue.watch(folder)
        self._listeners.setdefault(watch, []).append(listener)
        return watch

    def remove(self, watch: int, listener: _Listener) -> None:
        listeners = self._listeners.get(watch, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners and self._listeners.pop(watch, None) is not None:
            self._queue.unwatch(watch)

    def close(self) -> None:
        """Ends the queue."""
        self._open = False
        self._glib.source_remove(self._source)
        self._queue.close()

    def _listen(self) -> int:
        glib = self._glib
        number: int = glib.unix_fd_add_full(
            glib.PRIORITY_DEFAULT, self._queue.fileno(), glib.IOCondition.IN, self._ready
        )
        return number

    def _ready(self, *_: object) -> bool:
        notices = tuple(self._queue.take())
        for notice in dict.fromkeys(notices):
            known = self._listeners.values() if notice.watch is None else ()
            told = [one for listeners in known for one in listeners]
            for listener in told or tuple(self._listeners.get(notice.watch or 0, ())):
                try:
                    listener(notice)
                except Exception:
                    # GLib would end the watch for it.
                    sys.excepthook(*sys.exc_info())
        if not self._open:
            return False
        if not self._is_flood(len(notices)):
            return True
        self._source = self._glib.timeout_add(_PAUSE, self._go_on)
        return False

    def _is_flood(self, count: int) -> bool:
        """Whether ``count`` more messages are too many for the second that they came in."""
        now = time.monotonic()
        if now - self._since >= 1:
            self._since, self._count = now, 0
        self._count += count
        return self._count >= _MANY

    def _go_on(self) -> bool:
        self._source = self._listen()
        return False
