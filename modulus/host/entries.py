"""Entries kept by content below a cache: ``headers/ID`` and ``toolchains/ID``.

Each has a ``record.json`` with the names (``found_by``) that find it again without hashing
anything. Read-only extra stores have the same layout.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modulus.errors import ToolchainError
from modulus.host import files

SCHEMA = 1


class Entries:
    """The entries of one kind in the node's cache and, behind it, in extra stores.

    ``telling`` is a file that an entry must have, to pass over what was cut down by hand.
    """

    def __init__(self, kind: str, cache: Path, stores: Sequence[Path], telling: str) -> None:
        self.folder = cache / kind
        self._telling = telling
        self._folders = (self.folder, *(store / kind for store in stores))

    def find(self, name: str) -> tuple[Path, Mapping[str, Any]] | None:
        """The newest entry recorded by ``name``, the node's own first: folder and record."""
        for folder in self._folders:
            found = [
                (path, record)
                for path in _entries(folder)
                if (record := self._record(path)) and name in record["found_by"]
            ]
            if found:
                return max(found, key=lambda entry: str(entry[1].get("created")))
        return None

    def commit(self, scratch: Path, record: Mapping[str, Any]) -> Path:
        """Makes ``scratch`` the entry of ``record["id"]``, durably, in one rename.

        If the same content is there already, it is only recorded by one more name.
        """
        final = self.folder / str(record["id"])
        there = self._record(final)
        if there is not None:
            names = sorted({*there["found_by"], *record["found_by"]})
            files.write_json(final / "record.json", {**there, "found_by": names})
            return final
        files.remove_tree(final)
        files.write_json(scratch / "record.json", {"schema": SCHEMA, **record})
        scratch.chmod(0o755)
        _sync(scratch)
        scratch.rename(final)
        files.fsync_dir(self.folder)
        return final

    def _record(self, path: Path) -> dict[str, Any] | None:
        with contextlib.suppress(OSError):
            record = files.read_json(path / "record.json")
            if (
                isinstance(record, dict)
                and record.get("schema") == SCHEMA
                and record.get("id") == path.name
                and isinstance(record.get("found_by"), list)
                and (path / self._telling).is_file()
            ):
                return record
        return None


@contextlib.contextmanager
def explained(cache: Path) -> Iterator[None]:
    """Turns a file system that will not do into a ToolchainError with what to do next."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ToolchainError(
            f"{error.filename or cache}: {error.strerror or error}",
            f"make room on the file system of {cache}"
            if full
            else f"check that {cache} can be written",
        ) from error


def _entries(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [Path(entry) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return []


def _sync(path: Path) -> None:
    """Writes out all of the file system: with 16,000 files that is thirty times faster than
    fsync(2) of each."""
    import ctypes

    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(handle)
