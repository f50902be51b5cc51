"""Reads what a module's file says of itself, without holding it in memory."""

from __future__ import annotations

import mmap
from pathlib import Path

from modulus.core.elf import ModuleInfo, read_info
from modulus.errors import IntegrityError


def read_module_file(path: Path) -> ModuleInfo:
    """Maps the module in ``path``, as the largest have 65 MB; IntegrityError if it is none."""
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return read_info(data)
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path} cannot be read as a kernel module: {error}",
            "run modulus up again, which makes a new generation where one is damaged",
        ) from error
