"""Follows the kernel's log, so that a step can report what it made the kernel say."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from modulus.core.kernel.log import parse_messages
from modulus.host.files.place import below

_RECORD = 16 << 10
"""Bytes; each read gives one record, and fails for a buffer that is too small for it."""


class KernelLog:
    """The kernel's log since this object was made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = _open(path)
        if self._handle is not None:
            os.lseek(self._handle, 0, os.SEEK_END)

    def new_messages(self) -> tuple[str, ...]:
        """The messages since the last call, or the start; none where there is no log."""
        if self._handle is None:
            self._handle = _open(self._path)
        if self._handle is None:
            return ()
        return parse_messages(b"".join(_records(self._handle)).decode("utf-8", "replace"))

    def close(self) -> None:
        """Closes the log."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@contextlib.contextmanager
def kernel_log(root: Path) -> Iterator[KernelLog]:
    """The kernel's log below ``root``, from now on."""
    log = KernelLog(below(root, "/dev/kmsg"))
    try:
        yield log
    finally:
        log.close()


def _open(path: Path) -> int | None:
    """Opens the log; None where it is missing or may not be read."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _records(handle: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(handle, _RECORD)
        except BlockingIOError:
            return
        except BrokenPipeError:
            # Records were overwritten before they were read; the next is the oldest left.
            continue
        except OSError:
            return
        if not data:
            return
        yield data
