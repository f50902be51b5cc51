"""Reads records: JSON that Modulus wrote, and that others or a bad disk may have changed.

A bad record counts as missing and is reported once; its reader goes on as it would without. No
part of a record is used before all of it has its form (``core.record.forms``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modulus.core.record.json_text import MOST, parse_json
from modulus.host.files.regular import read_bytes
from modulus.host.report.reporter import make_reporter

_T = TypeVar("_T")

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


class RecordError(ValueError):
    """Why a record cannot be used; ``absent`` where nothing is at its path."""

    def __init__(self, why: str, *, absent: bool = False) -> None:
        super().__init__(why)
        self.absent = absent


def load_record(path: Path, parse: Callable[[object], _T], most: int = MOST) -> _T:
    """What ``parse`` returns for the JSON in ``path``; RecordError where it raises ValueError,
    or the file is missing or bad.

    No link is followed, no pipe is waited for, and at most ``most`` bytes are read.
    """
    try:
        return parse(parse_json(read_bytes(path, most, follow=False), most))
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise RecordError(why, absent=error.errno in _ABSENT) from None
    except ValueError as error:
        raise RecordError(str(error)) from None


def read_record(path: Path, parse: Callable[[object], _T]) -> _T | None:
    """As ``load_record``, but None for no or a bad record; reports a bad one once a process."""
    try:
        return load_record(path, parse)
    except RecordError as error:
        if not error.absent:
            _complain(path, str(error))
        return None


_said: set[tuple[str, str]] = set()
_MOST_SAID = 1000


def _complain(path: Path, why: str) -> None:
    """Warns once for each record and cause: some are read again and again."""
    told = (os.fspath(path), why)
    if told not in _said and len(_said) < _MOST_SAID:
        _said.add(told)
        make_reporter().warn(f"{path} is damaged and not used: {why}")
