"""Files that others made, read only as far as a caller needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path


def regular_files(folder: Path) -> Iterator[str]:
    """The regular files below ``folder``; callers that need its links make them anew."""
    cut = len(str(folder)) + 1
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path[cut:]


class FileData:
    """Slices like bytes. It is not mapped: a file cut short would then kill the process."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice) -> bytes:
        start, stop, _ = key.indices(self._size)
        parts = []
        while start < stop and (part := os.pread(self._file.fileno(), stop - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)
