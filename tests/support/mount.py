"""Small file systems, to fill up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.errors import ModulusError
from modulus.host.process.run import run


@contextlib.contextmanager
def tmpfs(folder: Path, size: str, *options: str) -> Iterator[Path]:
    """``folder`` as a file system of that ``size``, and with ``options``, in mount(8)'s words;
    skips if it cannot."""
    folder.mkdir()
    try:
        chosen = ",".join((f"size={size}", *options))
        run(["mount", "-t", "tmpfs", "-o", chosen, "tmpfs", folder])
    except ModulusError as error:
        pytest.skip(f"no tmpfs can be mounted: {error}")
    try:
        yield folder
    finally:
        run(["umount", folder])
