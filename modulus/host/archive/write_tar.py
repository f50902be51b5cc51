"""Writes compressed tars of what a build leaves; ``host.archive`` reads them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

_LEVEL = 3


def write_tar(path: Path, folder: Path, names: Iterable[str]) -> None:
    """Writes the regular files ``names`` below ``folder`` to ``path``, which must not exist."""
    import zstandard

    with (
        open(path, "xb") as file,
        zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|") as tar,
    ):
        for name in names:
            with open(folder / name, "rb") as member:
                status = os.fstat(member.fileno())
                info = tarfile.TarInfo(name)
                info.size, info.mode = status.st_size, status.st_mode & 0o777
                tar.addfile(info, member)
