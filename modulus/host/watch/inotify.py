"""The kernel's messages about names that come, go and change in folders, inotify(7).

Gio's monitors are not used: they also wake for every write to a file in a folder, such as
/dev/null, they look for a missing folder every four seconds, and they need a thread.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# linux/inotify.h
_ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x4, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT = 0x400, 0x800, 0x2000
_OVERFLOW, _IGNORED, _ONLYDIR = 0x4000, 0x8000, 0x01000000

_NAMES = _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_GONE = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
_HEAD = struct.Struct("iIII")
_BUFFER = 1 << 16


@dataclass(frozen=True)
class Notice:
    """``name`` in the watched folder came, went or changed its owner, mode or times.

    ``gone``: the folder itself was moved or removed. ``watch`` is None where messages were
    lost, which may have been about any folder.
    """

    watch: int | None
    name: str = ""
    gone: bool = False


class Inotify:
    """A queue of notices."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """For a main loop: readable when there is something to take."""
        return self._handle

    def watch(self, folder: Path) -> int:
        """Has notices about ``folder`` queued, and returns the number that they carry.

        It is the same each time for the same folder. Raises OSError where it is missing, no
        folder, or one too many for the kernel's limits.
        """
        mask = _NAMES | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
        added = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), mask)
        return self._checked(added, folder)

    def unwatch(self, watch: int) -> None:
        """Ends ``watch``; one that the kernel has ended is fine."""
        self._libc.inotify_rm_watch(self._handle, watch)

    def take(self) -> Iterator[Notice]:
        """What has come since the last time: 64 KiB, some 2,000 notices, at most.

        Notices may come faster than they are taken, so the rest is for the next time.
        """
        try:
            data = os.read(self._handle, _BUFFER)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size + length
            name = os.fsdecode(data[at - length : at].rstrip(b"\0"))
            lost = bool(mask & _OVERFLOW)
            yield Notice(None if lost else watch, name, bool(mask & _GONE))

    def close(self) -> None:
        """Ends the queue and all its watches."""
        os.close(self._handle)

    def _checked(self, result: int, path: Path | None = None) -> int:
        if result >= 0:
            return result
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path) if path else None)
