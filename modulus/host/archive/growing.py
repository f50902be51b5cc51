"""A file that one thread reads while another still writes it."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 20


class LostError(Exception):
    """What was being read is not what is going to be there."""


class Growth:
    """How far a file has come, told by who writes it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._size = 0
        self._ended = self._lost = False

    def reach(self, size: int) -> None:
        """So many bytes are there."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def end(self) -> None:
        """All of it is there, and it is what it should be; not what was lost before."""
        with self._changed:
            self._ended = not self._lost
            self._changed.notify_all()

    def lose(self) -> None:
        """It is begun again, or given up. After the end it means nothing."""
        with self._changed:
            self._lost = not self._ended
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether all of it is there, and is what was read of it meanwhile."""
        return self._ended

    def beyond(self, offset: int) -> int:
        """The size, once it is more than ``offset`` or final; LostError."""
        with self._changed:
            self._changed.wait_for(lambda: self._size > offset or self._ended or self._lost)
            if self._lost:
                raise LostError
            return self._size


def open_growing(path: Path, growth: Growth) -> io.BufferedReader:
    """The file at ``path``, whose readers wait for what has not come yet."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return io.BufferedReader(_GrowingFile(handle, growth), _CHUNK)


class _GrowingFile(io.RawIOBase):
    def __init__(self, handle: int, growth: Growth) -> None:
        super().__init__()
        self._handle = handle
        self._growth = growth
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            raise io.UnsupportedOperation("it has no end yet")
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        left = self._growth.beyond(self._at) - self._at
        count = os.preadv(self._handle, [view[: max(left, 0)]], self._at)
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
        super().close()
