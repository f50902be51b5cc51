"""Reads records: JSON that we wrote, of which others or a bad disk may have made anything.

A record that is not what it should be is as none, and said so once; what reads it goes on as it
would without. Nothing of it is used before all of it has its form (``core.forms``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modulus.core.record.json_text import MOST, parse_json
from modulus.host.files.regular import read_bytes

_T = TypeVar("_T")

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


class RecordError(ValueError):
    """Why there is no such record; ``absent`` where nothing is in its place."""

    def __init__(self, why: str, *, absent: bool = False) -> None:
        super().__init__(why)
        self.absent = absent


def load_record(path: Path, parse: Callable[[object], _T], most: int = MOST) -> _T:
    """What ``parse``, which raises ValueError, makes of the JSON in ``path``; RecordError.

    No link is followed, nothing is waited for, and no more than ``most`` bytes are read.
    """
    try:
        return parse(parse_json(read_bytes(path, most, follow=False), most))
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise RecordError(why, absent=error.errno in _ABSENT) from None
    except ValueError as error:
        raise RecordError(str(error)) from None


def read_record(path: Path, parse: Callable[[object], _T]) -> _T | None:
    """The same; None for a record that is not there, or bad, which is said once a process."""
    try:
        return load_record(path, parse)
    except RecordError as error:
        if not error.absent:
            _complain(path, str(error))
        return None


_said: set[tuple[str, str]] = set()
_MOST_SAID = 1000


def _complain(path: Path, why: str) -> None:
    """Once for each record that is bad in this way: some are read again and again."""
    told = (os.fspath(path), why)
    if told not in _said and len(_said) < _MOST_SAID:
        _said.add(told)
        from modulus.host.report.reporter import make_reporter

        make_reporter().warn(f"{path} is damaged and not used: {why}")
