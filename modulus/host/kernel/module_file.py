"""Reads what a module's file says of itself, without loading the file into memory."""

from __future__ import annotations

from pathlib import Path

from modulus.core.kernel.elf import ModuleInfo, read_info
from modulus.errors import IntegrityError
from modulus.host.files.data import FileData
from modulus.host.files.regular import open_regular


def read_module_file(path: Path) -> ModuleInfo:
    """Reads a few parts of the module in ``path``; IntegrityError if it is no module."""
    try:
        # A node's own modules may be links.
        with open_regular(path) as file:
            return read_info(FileData(file))
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path} cannot be read as a kernel module: {error}",
            "run modulus up again, which makes a new generation where one is damaged",
        ) from error
