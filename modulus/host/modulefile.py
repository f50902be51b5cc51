"""Reads a module's file, without holding it in memory."""

from __future__ import annotations

import mmap
from pathlib import Path

from modulus.core.elf import KernelModule, read_module
from modulus.errors import IntegrityError


def read_module_file(path: Path) -> KernelModule:
    """The module in ``path``, mapped: the largest have 65 MB. IntegrityError if it is none."""
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return read_module(data)
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path} cannot be read as a kernel module: {error}",
            "run modulus up again, which makes a new generation where one is damaged",
        ) from error
