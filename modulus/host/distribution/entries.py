"""Entries kept by content below a cache: ``headers/ID`` and ``toolchains/ID``.

Each has a ``record.json`` with the names (``found_by``) that find it without hashing. Before an
entry is used, its content is checked against ID, its digest. Read-only extra stores have the
same layout.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modulus.core.record import forms
from modulus.core.record.forms import Fields, Form
from modulus.errors import ToolchainError
from modulus.host.files import atomic
from modulus.host.files.full_disk import is_full
from modulus.host.files.record import read_record
from modulus.host.files.removal import set_aside
from modulus.host.files.tree_digest import tree_digest

SCHEMA = 1


class Entries:
    """The entries of one kind in the node's cache and, behind it, in extra stores.

    An entry is named by the digest of its folder ``tree``. A folder without the file
    ``telling`` was cut down by hand and is passed over. ``fields`` are the fields of this
    kind's records, each with its form.
    """

    def __init__(
        self,
        kind: str,
        tree: str,
        cache: Path,
        stores: Sequence[Path],
        telling: str,
        fields: Mapping[str, Form[object]],
    ) -> None:
        self.kind = kind
        self.folder = cache / kind
        self._tree = tree
        self._telling = f"{tree}/{telling}"
        self._fields = fields
        self._bad: set[Path] = set()
        self._folders = (self.folder, *(store / kind for store in stores))

    def find(self, *names: str | re.Pattern[str]) -> tuple[Path, Mapping[str, Any]] | None:
        """The folder and the record of the newest entry that has any of ``names``, in whole;
        the node's own entries go first."""

        def fits(known: str) -> bool:
            return any(
                known == name if isinstance(name, str) else name.fullmatch(known) is not None
                for name in names
            )

        for folder in self._folders:
            found = [
                (path, record)
                for path in _entries(folder)
                if path not in self._bad
                and (record := self._record(path))
                and any(map(fits, record["found_by"]))
            ]
            if found:
                return max(found, key=lambda entry: str(entry[1].get("created")))
        return None

    def all(self) -> Iterator[Path]:
        """The folder of every entry, the node's own first."""
        for folder in self._folders:
            yield from sorted(_entries(folder))

    def names(self, path: Path) -> tuple[str, ...]:
        """The names that find the entry in ``path``; empty where its record cannot be read."""
        record = self._record(path)
        return tuple(record["found_by"]) if record else ()

    def is_own(self, path: Path) -> bool:
        """Whether the entry in ``path`` is the node's own."""
        return path.parent == self.folder

    def damage(self, path: Path) -> str | None:
        """What is wrong with the entry in ``path``, or None; all of it is read."""
        if self._record(path) is None:
            return "its record cannot be read, or its files are gone"
        try:
            same = tree_digest(path / self._tree) == path.name
        except ValueError as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or path}: {error.strerror}"
        return None if same else "it has another content than when it was stored"

    def discard(self, path: Path) -> Path | None:
        """Hides a bad entry from ``find``; one of the node's own is moved to ``bad/``.

        Returns its new path, if any. The caller holds the same lock as for ``commit``.
        """
        self._bad.add(path)
        if not self.is_own(path) or not os.path.lexists(path):
            return None
        return set_aside(self.folder.parent, path)

    def commit(self, scratch: Path, record: Mapping[str, Any]) -> Path:
        """Makes ``scratch`` the entry of ``record["id"]``, durably, in one rename.

        If the same content is there already, its record only gains a name.
        """
        final = self.folder / str(record["id"])
        there = self._record(final)
        if there is not None and self.damage(final) is not None:
            self.discard(final)
            there = None
        self._bad.discard(final)
        if there is not None:
            names = sorted({*there["found_by"], *record["found_by"]})
            atomic.write_json(final / "record.json", {**there, "found_by": names})
            return final
        atomic.remove_tree(final)
        atomic.write_json(scratch / "record.json", {"schema": SCHEMA, **record})
        scratch.chmod(0o755)
        _sync(scratch)
        scratch.rename(final)
        atomic.fsync_dir(self.folder)
        return final

    def _record(self, path: Path) -> dict[str, Any] | None:
        record = read_record(path / "record.json", lambda value: self._parse(value, path.name))
        return record if record and (path / self._telling).is_file() else None

    def _parse(self, value: object, identity: str) -> dict[str, Any]:
        """The record of ``identity`` in ``value``, with any fields of another version."""
        of = Fields(value, "the record")
        of("schema", forms.exactly(SCHEMA))
        of("id", forms.exactly(identity))
        of("found_by", forms.list_of(forms.line))
        of("created", forms.optional(forms.time))
        for name, form in self._fields.items():
            of(name, form)
        return dict(of.all)


@contextlib.contextmanager
def explained(cache: Path) -> Iterator[None]:
    """Turns an OSError in ``cache`` into a ToolchainError that says what to do next."""
    try:
        yield
    except OSError as error:
        raise ToolchainError(
            f"{error.filename or cache}: {error.strerror or error}",
            f"make room on the file system of {cache}"
            if is_full(error)
            else f"check that {cache} can be written",
        ) from error


def _entries(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [Path(entry) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return []


def _sync(path: Path) -> None:
    """Writes out the whole file system: for 16,000 files this is thirty times faster than
    fsync(2) of each."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(handle)
