"""Opens and reads files that somebody else may have put there: only regular ones, and bounded.

Opening a named pipe, or some devices, would wait; a file may be larger than memory. A file of
the wrong kind or size is an OSError, as a missing one is.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO

MOST = 64 << 20
"""Bytes that are read of a file unless said otherwise."""
_PIECE = 1 << 20


def open_regular(
    path: str | os.PathLike[str], *, folder: int | None = None, follow: bool = True
) -> FileIO:
    """The regular file ``path``, for reading, unbuffered; OSError where it is none.

    A relative path begins at the open ``folder``. Without ``follow`` a link at the end of the
    path is an OSError too.
    """
    more = os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    file = FileIO(path, opener=lambda name, flags: os.open(name, flags | more, dir_fd=folder))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return file


def read_bytes(path: str | os.PathLike[str], most: int = MOST, *, follow: bool = True) -> bytes:
    """All bytes of a regular file; OSError (EFBIG) where it has more than ``most``."""
    with open_regular(path, follow=follow) as file:
        # procfs and sysfs give a size of 0, or of a page.
        pieces, left = [], most + 1
        while left and (piece := file.read(min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise OSError(errno.EFBIG, f"has more than {most} bytes", os.fspath(path))
    return b"".join(pieces)


def read_text(path: str | os.PathLike[str], most: int = MOST, *, follow: bool = True) -> str:
    """As ``read_bytes``, but text: bytes that are not UTF-8 are replaced, line ends stay."""
    return read_bytes(path, most, follow=follow).decode("utf-8", "replace")
