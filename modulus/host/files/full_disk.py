"""A full disk or a used-up quota: no other place or way helps, only more room."""

from __future__ import annotations

import errno
import os

_ERRORS = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException | None) -> bool:
    """Whether ``error``, or an error it was raised from, means a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _ERRORS:
            return True
        error = error.__cause__
    return False


def check_full(output: str) -> None:
    """Raises OSError where a program's ``output`` says that the disk is full."""
    for number in _ERRORS:
        if os.strerror(number) in output:
            raise OSError(number, os.strerror(number))
