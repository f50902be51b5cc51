"""Reads from a library's file the name that the dynamic linker knows it by."""

from __future__ import annotations

import mmap
from pathlib import Path

from modulus.core.generation.soname import soname
from modulus.host.files.regular import open_regular


def read_soname(path: Path) -> str | None:
    """The soname of the library at ``path``; ValueError where it is damaged."""
    if not path.stat().st_size:
        return None
    with (
        open_regular(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return soname(data)
