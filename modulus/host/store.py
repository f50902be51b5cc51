"""Finished builds, by key: whole, hash-checked and never changed once they are there.

``builds/RELEASE/KEY/`` holds the modules, the build's log and a manifest with every input and
every file's hash. Reads look in the node's own cache and then in the read-only extra stores
(a second disk, an NFS export), which have the same layout.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.keys import SHORT
from modulus.errors import IntegrityError, UsageError
from modulus.host import files
from modulus.host.report import Reporter

SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """One build in a store; ``own`` is False in a read-only extra store."""

    key: str
    release: str
    path: Path
    manifest: Mapping[str, Any]
    own: bool

    @property
    def instance(self) -> str:
        """The instance it was built for."""
        return str(self.manifest.get("instance", ""))

    @property
    def modules(self) -> dict[str, Path]:
        """The modules by file name."""
        return {file["path"]: self.path / file["path"] for file in self.manifest["files"]}

    @property
    def size(self) -> int:
        """What it takes on disk, in bytes."""
        return files.tree_size(self.path)

    @property
    def used(self) -> float:
        """When it was last used, in seconds since the epoch."""
        return (self.path / "manifest.json").stat().st_mtime


class Store:
    """The builds of one cache folder, and of extra stores behind it."""

    def __init__(self, cache: Path, extra: Sequence[Path], reporter: Reporter) -> None:
        self.cache = cache
        self._extra = tuple(extra)
        self._reporter = reporter

    def find(self, key: str, release: str) -> Entry | None:
        """The entry of ``key`` by its manifest alone, for plans; nothing is hashed."""
        for root in (self.cache, *self._extra):
            entry = self._read(root / "builds" / release / key)
            if entry and entry.key == key and not damage(entry, deep=False):
                return entry
        return None

    def get(self, key: str, release: str) -> Entry | None:
        """The entry of ``key`` with every hash checked, or None.

        A bad one of our own is set aside in ``bad/`` and said so; a bad one elsewhere is
        passed over.
        """
        for root in (self.cache, *self._extra):
            path = root / "builds" / release / key
            if not path.is_dir():
                continue
            entry = self._read(path)
            problem = damage(entry) if entry else "its manifest cannot be read"
            if entry and not problem:
                if entry.own:
                    os.utime(entry.path / "manifest.json")
                return entry
            self._reporter.warn(f"store entry {key[:SHORT]} is bad and not used: {problem}")
            if root == self.cache:
                self.set_aside(path)
        return None

    def commit(self, key: str, release: str, scratch: Path, manifest: dict[str, Any]) -> Entry:
        """Makes the finished ``scratch`` folder the entry of ``key``, durably, in one rename.

        Losing a race to another process is no error: the entry that is there counts.
        """
        final = self.cache / "builds" / release / key
        manifest = {"schema": SCHEMA, "key": key, "kernel": release, **manifest}
        files.write_json(scratch / "manifest.json", manifest)
        files.commit_tree(scratch, final)
        entry = self._read(final)
        if entry is None:
            raise IntegrityError(
                f"{final} is not a store entry", "remove it and run the same command again"
            )
        return entry

    def entries(self) -> Iterator[Entry]:
        """Every entry with a readable manifest, our own first."""
        for root in (self.cache, *self._extra):
            for path in sorted((root / "builds").glob("*/*")):
                entry = None if path.name.startswith(".") else self._read(path)
                if entry:
                    yield entry

    def bad(self) -> Iterator[Path]:
        """What was set aside."""
        yield from sorted((self.cache / "bad").glob("*"))

    def lookup(self, prefix: str) -> Entry:
        """The one entry whose key begins with ``prefix``; UsageError for none or several."""
        found = {entry.key: entry for entry in self.entries() if entry.key.startswith(prefix)}
        if len(found) != 1:
            raise UsageError(
                f"{len(found) or 'no'} store entries begin with {prefix}",
                "take a key from modulus cache list --json",
            )
        return next(iter(found.values()))

    def set_aside(self, path: Path) -> None:
        """Moves a bad entry to ``bad/``, where nothing is used but all can be looked at."""
        aside = self.cache / "bad" / f"{path.name}.{time.time_ns()}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)

    def _read(self, path: Path) -> Entry | None:
        manifest = files.read_json(path / "manifest.json")
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), list):
            return None
        if not all(
            isinstance(file, dict) and files.is_plain_name(file.get("path"))
            for file in manifest["files"]
        ):
            return None
        own = path.is_relative_to(self.cache)
        return Entry(str(manifest.get("key")), path.parent.name, path, manifest, own)


def damage(entry: Entry, *, deep: bool = True) -> str | None:
    """What is wrong with ``entry``'s files, or None; without ``deep`` only sizes are read."""
    if entry.manifest.get("schema") != SCHEMA or entry.key != entry.path.name:
        return "its manifest is not of this schema and key"
    for file in entry.manifest["files"]:
        path = entry.path / file["path"]
        try:
            if path.stat().st_size != file.get("size"):
                return f"{path.name} is {path.stat().st_size} bytes, not {file.get('size')}"
            if deep and files.sha256_file(path) != file.get("sha256"):
                return f"{path.name} has another sha256 than its manifest says"
        except OSError as error:
            return f"{path.name} cannot be read ({error.strerror})"
    return None
