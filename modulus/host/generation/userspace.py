"""A driver's libraries, tools and firmware in the cache, once per version and components.

``userspace/ID/`` holds ``tree/``, laid out as in a generation, and ``record.json`` with every
file's hash. A userspace is used only while all hashes match.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.package.userspace import (
    Layout,
    Selection,
    plan_layout,
    soname_links,
    userspace_id,
)
from modulus.core.package.vendor_manifest import VendorManifest
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.tree import FileRecord, Tree, parse_tree, tree_value
from modulus.errors import IntegrityError
from modulus.host.archive.reader import Archive, all_of
from modulus.host.files import atomic
from modulus.host.files.place import make_dirs, writing
from modulus.host.files.record import load_record
from modulus.host.files.removal import set_aside
from modulus.host.files.tree import (
    copy_file,
    counter,
    damage,
    make_links,
    make_parents,
    record_file,
)
from modulus.host.generation.soname import read_soname
from modulus.host.report.reporter import Reporter

SCHEMA = 1
_SCRATCH = "userspace"


@dataclass(frozen=True)
class Userspace:
    """A userspace in the cache: ``path`` is the folder that holds ``tree``."""

    id: str
    path: Path
    tree: Tree

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file in it."""
        return self.tree.files


def find_userspace(cache: Path, identity: str, reporter: Reporter) -> Userspace | None:
    """The userspace of that id with every hash checked, or None.

    A bad one is reported and set aside in ``bad/``. What killed runs left is removed.
    """
    entry = cache / "userspace" / identity
    atomic.sweep(entry.parent, _SCRATCH)
    if not entry.is_dir():
        return None
    problem: str | None = "its record cannot be read"
    with contextlib.suppress(ValueError):
        tree = load_record(entry / "record.json", lambda value: _parse(value, identity))
        problem = damage(entry / "tree", tree, counter(reporter, "install", tree.size))
        if problem is None:
            return Userspace(identity, entry / "tree", tree)
    reporter.warn(f"userspace {identity} is bad and not used: {problem}")
    # Another process may have been faster.
    with writing(cache / "bad"), contextlib.suppress(FileNotFoundError):
        set_aside(cache, entry)
    return None


def provide_userspace(
    cache: Path,
    archive: Archive,
    manifest: VendorManifest,
    selection: Selection,
    source_sha256: str,
    reporter: Reporter,
) -> Userspace | None:
    """The userspace of the package ``archive``, from the cache or unpacked into it now.

    None where ``selection`` takes nothing of it. Of two concurrent runs the first one counts.
    Raises IntegrityError for a package that is not what its manifest says, BuildError for a
    full disk.
    """
    identity = userspace_id(source_sha256, manifest.version, selection)
    final = cache / "userspace" / identity
    while True:
        found = find_userspace(cache, identity, reporter)
        if found:
            return found
        layout = plan_layout(manifest, selection)
        if not layout.files:
            return None
        with writing(final):
            make_dirs(final.parent)
            with atomic.scratch(final.parent, _SCRATCH) as folder:
                # A subfolder: unpacking locks its target's parent, as scratch does.
                entry = folder / identity
                entry.mkdir()
                tree = _unpack(archive, layout, entry / "tree", reporter)
                record: dict[str, Any] = {
                    "schema": SCHEMA,
                    "id": identity,
                    "source": source_sha256,
                    "version": manifest.version,
                    "components": sorted(set(selection.components)),
                    **tree_value(tree),
                }
                atomic.write_json(entry / "record.json", record)
                if atomic.commit_tree(entry, final):
                    return Userspace(identity, final / "tree", tree)


def _unpack(archive: Archive, layout: Layout, folder: Path, reporter: Reporter) -> Tree:
    """Makes ``folder`` and returns what it then holds."""
    first: dict[str, str] = {}
    for file in layout.files:
        first.setdefault(file.member, file.path)
    reporter.phase("unpack", f"{len(layout.files)} files of the userspace")
    archive.extract(folder, first.get, enough=all_of(first), reporter=reporter)
    for file in layout.files:
        source, path = folder / first[file.member], folder / file.path
        if source.is_symlink() or not source.is_file():
            raise IntegrityError(
                f"the package has no file {file.member}, which its manifest lists",
                "download the driver again; its package is damaged or of an unknown kind",
            )
        if path == source:
            path.chmod(file.mode)
        else:
            make_parents(path, folder)
            copy_file(source, path, file.mode)
    records = tuple(record_file(folder / file.path, file.path) for file in layout.files)
    sonames = _sonames(records, folder, reporter)
    links = (*layout.links, *soname_links(layout.paths, sonames))
    make_links(links, folder)
    return Tree(records, tuple(sorted(links)))


def _sonames(
    records: tuple[FileRecord, ...], folder: Path, reporter: Reporter
) -> dict[str, str]:
    found = {}
    for record in records:
        if record.path.startswith("lib/"):
            try:
                name = read_soname(folder / record.path)
            except ValueError as error:
                reporter.warn(f"{record.path} is no sound library, it gets no link: {error}")
                continue
            if name:
                found[record.path] = name
    return found


def _parse(record: object, identity: str) -> Tree:
    of = Fields(record, "the record")
    of("schema", forms.exactly(SCHEMA))
    of("id", forms.exactly(identity))
    return parse_tree(record)
