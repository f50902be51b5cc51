"""A full disk or a used-up quota: no other place or way helps, only more room."""

from __future__ import annotations

import errno
import os


def is_full(error: BaseException | None) -> bool:
    """Whether ``error``, or an error it was raised from, means a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def check_full(output: str) -> None:
    """Raises OSError where a program's ``output`` says that the disk is full."""
    if os.strerror(errno.ENOSPC) in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
