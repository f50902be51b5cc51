"""What the compiler made of single slices of sources, kept for kernels with other headers.

A slice is what an object takes of its preprocessed source; its assembly is in a file named by
the slice's sha256, whatever kernel it came from. ``assembly.tar.zst`` has those of one build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from modulus.errors import IntegrityError
from modulus.host import files
from modulus.host.archive import Archive
from modulus.host.tarball import write_tar

NAME = "assembly.tar.zst"
_SLICE = re.compile(r"[0-9a-f]{64}")
# What a build leaves is made by its payload, which may be hostile. Real ones have some hundreds
# of files, and tens of megabytes.
_MOST_FILES = 10_000
_MOST_BYTES = 1 << 30


def pack(made: Path, archive: Path) -> str | None:
    """Makes the new ``archive`` of what a build left in ``made``; its sha256.

    None, and no archive, where there is nothing, or more than is believable.
    """
    names, total = [], 0
    for name, size in _slices(made):
        names.append(name)
        total += size
        if len(names) > _MOST_FILES or total > _MOST_BYTES:
            return None
    if not names:
        return None
    write_tar(archive, made, sorted(names))
    return files.sha256_file(archive)


def lay_out(archive: Path, sha256: str, target: Path) -> None:
    """Makes the folder ``target`` of ``archive``, or nothing.

    IntegrityError where that is not what was packed, and it is gone then; OSError.
    """
    try:
        if files.sha256_file(archive) != sha256:
            raise IntegrityError("the kept assembly is damaged", "build it again")
        Archive(archive, "tar").extract(
            target, lambda name: name if _SLICE.fullmatch(name) else None
        )
    except IntegrityError:
        archive.unlink()
        raise


def _slices(made: Path) -> Iterator[tuple[str, int]]:
    """The regular files with a slice's name, and their bytes."""
    # A link may lead anywhere.
    if made.is_symlink() or not made.is_dir():
        return
    with os.scandir(made) as entries:
        for entry in entries:
            if _SLICE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                yield entry.name, entry.stat(follow_symlinks=False).st_size
