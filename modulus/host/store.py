"""Finished builds, by key: whole, hash-checked and never changed once they are there.

``builds/RELEASE/KEY/`` holds the modules, the build's log and a manifest with every input and
every file's hash. Reads look in the node's own cache and then in the read-only extra stores
(a second disk, an NFS export), which have the same layout.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modulus.core.dataclass import dataclass
from modulus.core.keys import SHORT
from modulus.core.manifest import SCHEMA, Manifest, parse_manifest
from modulus.errors import IntegrityError, UsageError
from modulus.host import files
from modulus.host.report import Reporter


@dataclass(frozen=True)
class Entry:
    """One build in a store, ``own`` False in a read-only one.

    ``manifest`` is None where it cannot be read, and ``problem`` then says why.
    """

    key: str
    release: str
    path: Path
    manifest: Manifest | None
    own: bool
    problem: str | None = None

    @property
    def modules(self) -> dict[str, Path]:
        """The modules by file name."""
        listed = self.manifest.files if self.manifest else ()
        return {file.path: self.path / file.path for file in listed}

    def damage(self, *, deep: bool = True) -> str | None:
        """What is wrong with it, or None; without ``deep`` only sizes are read."""
        for file in self.manifest.files if self.manifest else ():
            path = self.path / file.path
            try:
                size = path.stat().st_size
                if size != file.size:
                    return f"{file.path} is {size} bytes, not {file.size}"
                if deep and files.sha256_file(path) != file.sha256:
                    return f"{file.path} has another sha256 than its manifest says"
            except OSError as error:
                return f"{file.path} cannot be read ({error.strerror})"
        return self.problem


class Store:
    """The builds of one cache folder, and of extra stores behind it."""

    def __init__(self, cache: Path, extra: Sequence[Path], reporter: Reporter) -> None:
        self.cache = cache
        self._roots = (cache, *extra)
        self._reporter = reporter
        self._warned: set[Path] = set()

    def find(self, key: str, release: str) -> Entry | None:
        """The entry of ``key`` by its manifest and sizes, for plans; nothing is hashed."""
        sound = (entry for entry in self._of(key, release) if not entry.damage(deep=False))
        return next(sound, None)

    def get(self, key: str, release: str) -> Entry | None:
        """The entry of ``key`` with every hash checked, or None; a bad one is said to be so."""
        for entry in self._of(key, release):
            problem = entry.damage()
            if problem is None:
                with contextlib.suppress(OSError):  # A read-only cache has no last use.
                    os.utime(entry.path / "manifest.json")
                return entry
            if entry.path not in self._warned:
                self._warned.add(entry.path)
                self._reporter.warn(f"build {key[:SHORT]} is bad and not used: {problem}")
        return None

    def commit(self, key: str, release: str, scratch: Path, manifest: dict[str, Any]) -> Entry:
        """Makes the finished ``scratch`` folder the entry of ``key``, durably, in one rename.

        The caller has the key's lock; a bad entry in its place is set aside.
        """
        final = self.cache / "builds" / release / key
        manifest = {"schema": SCHEMA, "key": key, "kernel": release, **manifest}
        files.write_json(scratch / "manifest.json", manifest)
        self.set_aside(self._read(final))
        files.commit_tree(scratch, final)
        entry = self._read(final)
        if entry.damage(deep=False):
            raise IntegrityError(
                f"{final} is no sound build: {entry.damage(deep=False)}",
                "remove it and run the same command again",
            )
        return entry

    def entries(self) -> Iterator[Entry]:
        """Every entry, our own first, those that cannot be read included."""
        for root in self._roots:
            for path in sorted((root / "builds").glob("*/*")):
                if path.is_dir() and not path.name.startswith("."):
                    yield self._read(path)

    def bad(self) -> Iterator[Path]:
        """What was set aside."""
        yield from sorted((self.cache / "bad").glob("*"))

    def lookup(self, prefix: str) -> Entry:
        """The one entry whose key begins with ``prefix``; UsageError for none or several."""
        found = {entry.key: entry for entry in self.entries() if entry.key.startswith(prefix)}
        if len(found) != 1:
            raise UsageError(
                f"{len(found) or 'no'} builds in the store have keys that begin with {prefix}",
                "take a key from modulus cache list --json",
            )
        return next(iter(found.values()))

    def set_aside(self, entry: Entry) -> Path | None:
        """Moves an entry of our own to ``bad/`` if it is there and bad now; where it then is.

        The caller has the key's lock, so that a good one cannot take its place meanwhile.
        """
        if not entry.own or not entry.path.is_dir() or not self._read(entry.path).damage():
            return None
        aside = self.cache / "bad" / f"{entry.path.name}.{time.time_ns()}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        entry.path.rename(aside)
        return aside

    def _of(self, key: str, release: str) -> Iterator[Entry]:
        for root in self._roots:
            path = root / "builds" / release / key
            if path.is_dir():
                yield self._read(path)

    def _read(self, path: Path) -> Entry:
        key, release, own = path.name, path.parent.name, path.is_relative_to(self.cache)
        try:
            manifest = parse_manifest(files.read_json(path / "manifest.json"), key, release)
        except ValueError as error:
            return Entry(key, release, path, None, own, str(error))
        return Entry(key, release, path, manifest, own)
