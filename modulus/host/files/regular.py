"""Opens and reads files that somebody else may have put there: only regular ones, and bounded.

A named pipe would be waited for, and so would some devices; a file may be larger than memory.
Whatever is not as it should be is an OSError, as what is not there is.
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

    A relative one is below the open ``folder``. Without ``follow`` a link at the end of the
    path is none either.
    """
    more = os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    file = FileIO(path, opener=lambda name, flags: os.open(name, flags | more, dir_fd=folder))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return file


def read_bytes(path: str | os.PathLike[str], most: int = MOST, *, follow: bool = True) -> bytes:
    """All of a regular file; OSError, EFBIG, for one of more than ``most`` bytes."""
    with open_regular(path, follow=follow) as file:
        # procfs and sysfs say a size of nothing, or of a page.
        pieces, left = [], most + 1
        while left and (piece := file.read(min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise OSError(errno.EFBIG, f"has more than {most} bytes", os.fspath(path))
    return b"".join(pieces)


def read_text(path: str | os.PathLike[str], most: int = MOST, *, follow: bool = True) -> str:
    """The same as text, in which what is not UTF-8 is replaced; line ends are as they are."""
    return read_bytes(path, most, follow=follow).decode("utf-8", "replace")
