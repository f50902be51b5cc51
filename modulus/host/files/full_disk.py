"""A full disk, or a quota that is used up: no other place or way helps, but room does."""

from __future__ import annotations

import errno
import os


def is_full(error: BaseException | None) -> bool:
    """Whether that is ``error``, or what it was raised from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def check_full(output: str) -> None:
    """Raises OSError where a program says in its ``output`` that it met with one."""
    if os.strerror(errno.ENOSPC) in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
