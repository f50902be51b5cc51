"""Finished builds, by key: whole, hash-checked and never changed once they are there.

``builds/RELEASE/KEY/`` holds the build's log and a manifest with every input and every module's
hash. A module is one of the store's objects, or a patch in this folder against one; an entry
that an older Modulus made holds it as it is. Reads look in the node's own cache and then in the
read-only extra stores (a second disk, an NFS export), each with objects of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.store.keys import SHORT
from modulus.core.store.manifest import SCHEMA, Manifest, StoredFile, parse_manifest
from modulus.errors import IntegrityError, UsageError
from modulus.host.files import atomic
from modulus.host.files.record import load_record
from modulus.host.files.removal import set_aside
from modulus.host.report.reporter import Reporter
from modulus.host.store.entry import Stored
from modulus.host.store.objects import Objects
from modulus.host.store.packing import pack


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
    def files(self) -> tuple[StoredFile, ...]:
        """What its manifest says of its modules; none where that cannot be read."""
        return self.manifest.files if self.manifest else ()

    @property
    def needs(self) -> frozenset[str]:
        """The objects of its store that its modules are, or are patches against."""
        return frozenset(file.object for file in self.files if file.object)

    def has_any(self, modules: frozenset[str]) -> bool:
        """Whether one of its modules has one of these sha256."""
        return any(file.sha256 in modules for file in self.files)

    @property
    def objects_size(self) -> int:
        """The bytes of the objects that are its modules; the bases of patches are others'."""
        wholes = {file.sha256 for file in self.files if file.object == file.sha256}
        sizes = Objects(self.path.parents[2]).all()
        return sum(sizes.get(sha256, 0) for sha256 in wholes)

    @property
    def modules(self) -> dict[str, Stored]:
        """The modules by file name."""
        # The objects of its own store: the entry is at builds/RELEASE/KEY.
        objects = Objects(self.path.parents[2])
        return {file.path: Stored(file, self.path, objects) for file in self.files}

    def damage(self, *, deep: bool = True) -> str | None:
        """What is wrong with it, or None; without ``deep`` only whether all of it is there."""
        problems = (module.damage(deep=deep) for module in self.modules.values())
        return next(filter(None, problems), self.problem)


class Store:
    """The builds of one cache folder, and of extra stores behind it."""

    def __init__(self, cache: Path, extra: Sequence[Path]) -> None:
        self.cache = cache
        self.objects = Objects(cache)
        self._roots = (cache, *extra)
        self._warned: set[Path] = set()

    def find(self, key: str, release: str, wrong: frozenset[str] = frozenset()) -> Entry | None:
        """The entry of ``key``, if all of it is there, for plans; nothing is hashed.

        Entries with one of the modules ``wrong`` (sha256) are passed over.
        """
        there = (entry for entry in self._of(key, release) if not entry.has_any(wrong))
        sound = (entry for entry in there if not entry.damage(deep=False))
        return next(sound, None)

    def get(
        self,
        key: str,
        release: str,
        reporter: Reporter,
        wrong: frozenset[str] = frozenset(),
    ) -> Entry | None:
        """As ``find``, with every hash checked; a bad entry is reported once."""
        for entry in self._of(key, release):
            if entry.has_any(wrong):
                continue
            problem = entry.damage()
            if problem is None:
                with contextlib.suppress(OSError):  # A read-only cache has no last use.
                    os.utime(entry.path / "manifest.json")
                return entry
            if entry.path not in self._warned:
                self._warned.add(entry.path)
                reporter.warn(f"build {key[:SHORT]} is bad and not used: {problem}")
        return None

    def commit(
        self,
        key: str,
        release: str,
        scratch: Path,
        modules: Path,
        manifest: dict[str, Any],
        *,
        instead: bool = False,
    ) -> Entry:
        """Makes the finished ``scratch`` folder the entry of ``key``, durably, in one rename,
        with the files of ``manifest`` from the folder ``modules``.

        The caller has the key's lock, and keeps clean-ups out; a bad entry in its place is set
        aside, with ``instead`` a good one too. Raises IntegrityError for a file that is not
        what ``manifest`` says.
        """
        final = self.cache / "builds" / release / key
        self.set_aside(self._read(final), wrong=instead)
        bases = self._bases(manifest["instance"], manifest["flavour"])
        # Swept even where every object is there already.
        self.objects.sweep()
        stored = []
        for value in manifest["files"]:
            file = StoredFile(value["path"], value["sha256"], value["size"])
            likely = bases.get(file.path, ())
            held = pack(file, modules / file.path, scratch, self.objects, likely)
            stored.append({**value, "object": held})
        manifest = {
            "schema": SCHEMA,
            "key": key,
            "kernel": release,
            **manifest,
            "files": stored,
        }
        atomic.write_json(scratch / "manifest.json", manifest)
        atomic.commit_tree(scratch, final)
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
            yield from self._entries(root)

    def _entries(self, root: Path) -> Iterator[Entry]:
        for path in sorted((root / "builds").glob("*/*")):
            if path.is_dir() and not path.name.startswith("."):
                yield self._read(path)

    def _bases(self, instance: str, flavour: str) -> dict[str, list[str]]:
        """Objects that may be like a module of ``instance``, by the module's name: those of the
        same flavour first, the latest first."""
        found: dict[str, dict[str, tuple[bool, str]]] = {}
        for entry in self._entries(self.cache):
            of = entry.manifest
            if of and of.instance == instance:
                rank = (of.flavour == flavour, of.finished)
                for file in of.files:
                    if file.object:
                        ranks = found.setdefault(file.path, {})
                        ranks[file.object] = max(ranks.get(file.object, rank), rank)
        return {
            name: sorted(ranks, key=ranks.__getitem__, reverse=True)
            for name, ranks in found.items()
        }

    def bad(self) -> Iterator[Path]:
        """What was set aside."""
        yield from sorted((self.cache / "bad").glob("*"))

    def lookup(self, prefix: str) -> Entry:
        """The one entry whose key begins with ``prefix``; UsageError for none or several."""
        found: dict[str, Entry] = {}
        for entry in self.entries():
            if entry.key.startswith(prefix):
                found.setdefault(entry.key, entry)  # Our own, which is used first.
        if len(found) != 1:
            raise UsageError(
                f"{len(found) or 'no'} builds in the store have keys that begin with {prefix}",
                "take a key from modulus cache list --json",
            )
        return next(iter(found.values()))

    def reread(self, entry: Entry) -> Entry | None:
        """The entry in the place of ``entry`` now; None where there is none."""
        return self._read(entry.path) if entry.path.is_dir() else None

    def own(self, key: str, release: str) -> Entry | None:
        """The entry of ``key`` in the node's own cache, whatever state it is in."""
        path = self.cache / "builds" / release / key
        return self._read(path) if path.is_dir() else None

    def set_aside(self, entry: Entry, *, wrong: bool = False) -> Path | None:
        """Moves an own entry to ``bad/`` if it is there and bad now; returns where it then is.

        ``wrong``: its hashes may hold, and it is bad all the same.

        The caller has the key's lock, so that a good one cannot take its place meanwhile.
        """
        if not entry.own or not entry.path.is_dir():
            return None
        if not wrong and not self._read(entry.path).damage():
            return None
        return set_aside(self.cache, entry.path)

    def _of(self, key: str, release: str) -> Iterator[Entry]:
        for root in self._roots:
            path = root / "builds" / release / key
            if path.is_dir():
                yield self._read(path)

    def _read(self, path: Path) -> Entry:
        key, release, own = path.name, path.parent.name, path.is_relative_to(self.cache)
        try:
            manifest = load_record(
                path / "manifest.json", lambda value: parse_manifest(value, key, release)
            )
        except ValueError as error:
            return Entry(key, release, path, None, own, str(error))
        return Entry(key, release, path, manifest, own)
