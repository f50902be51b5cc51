"""Reads from files what the dynamic linker knows libraries by, and what programs ask it for."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modulus.core.generation.soname import Program, program, soname
from modulus.host.files.regular import open_regular

Read = TypeVar("Read")


def read_soname(path: Path) -> str | None:
    """The soname of the library at ``path``; ValueError where it is damaged."""
    return _read(path, soname)


def read_program(path: Path) -> Program | None:
    """What the program at ``path`` asks for, None for a script; ValueError where it is
    damaged."""
    return _read(path, program)


def _read(path: Path, reader: Callable[[mmap.mmap], Read | None]) -> Read | None:
    if not path.stat().st_size:
        return None
    with (
        open_regular(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return reader(data)
