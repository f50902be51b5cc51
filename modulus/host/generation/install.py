"""Generations under /opt/drivers, and the one rename that makes one of them the driver.

``.NAME/GENERATION/`` is written once, whole, and never changed; ``NAME`` is a relative
symlink to one of them. At any moment, a power cut included, it points to a whole one.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modulus.core.generation.generation import (
    MANIFEST,
    Contents,
    Identity,
    generation_name,
    manifest_value,
    module_path,
    parse_generation,
)
from modulus.core.instance import Instance
from modulus.core.tree import FOLDER, PLAIN, FileRecord, Tree
from modulus.errors import BuildError, ConfigError
from modulus.host.files import atomic
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import DRIVERS, below, make_dirs, replace_file, writing
from modulus.host.files.record import read_record
from modulus.host.files.tree import Writer, copy_file, counter, damage, write_tree
from modulus.host.report.reporter import Reporter

if TYPE_CHECKING:
    from modulus.host.generation.userspace import Userspace

_FOLDERS = ("bin", "lib", "firmware", "share")
_SCRATCH = "tmp"


class Module(Protocol):
    """A module to install, wherever it comes from."""

    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...
    def write(self, target: Path, mode: int) -> None:
        """Writes the module to ``target``; IntegrityError where its hash does not match."""


@dataclass(frozen=True)
class Generation:
    """A generation in place; ``changed`` says whether this run made it."""

    name: str
    path: Path
    contents: Contents
    changed: bool = False


def install_generation(
    root: Path,
    identity: Identity,
    modules: Mapping[str, Module],
    userspace: Userspace | None,
    reporter: Reporter,
) -> Generation:
    """Puts a generation of ``modules`` (by file name) and ``userspace`` in place.

    One that is there already, and whose hashes match, is taken as it is; a damaged one stays,
    since it may be in use, and a fresh one is made beside it. Activates nothing.
    Raises ConfigError where ``/opt/drivers`` is not ours to write, BuildError for a full disk
    or where a source changed meanwhile, such as a cache that is being deleted.
    """
    driver = DriverPaths(root, identity.instance.profile)
    check_ours(driver)
    home = driver.generations
    release = identity.kernel.release
    sources: dict[str, Writer] = {
        module_path(release, file): module.write for file, module in modules.items()
    }
    try:
        records = [
            FileRecord(module_path(release, file), module.sha256, module.size, PLAIN)
            for file, module in modules.items()
        ]
        tree = Tree(tuple(sorted(records)))
        if userspace:
            tree = tree.merged(userspace.tree)
            sources |= {
                file.path: partial(copy_file, userspace.path / file.path)
                for file in userspace.files
            }
        contents = Contents(identity, userspace.id if userspace else None, tree)
        with writing(home):
            make_dirs(home)
            atomic.sweep(home, _SCRATCH)
            return _provide(home, generation_name(contents), contents, sources, reporter)
    except FileNotFoundError as error:
        raise BuildError(
            f"{error.filename} vanished while it was being installed",
            "run the same command again",
        ) from error


def verify_generation(generation: Generation, reporter: Reporter) -> str | None:
    """What is wrong with the files of ``generation``, every hash checked; None if nothing."""
    return _damage(generation.path, generation.contents, reporter)


def active_generation(driver: DriverPaths) -> Generation | None:
    """The active generation of ``driver``; None without it or its manifest."""
    active = _target(driver.link, driver.name)
    return find_generation(driver, active) if active else None


def find_generation(driver: DriverPaths, which: str) -> Generation | None:
    """The generation ``which`` of ``driver``; None without it or its manifest."""
    if not atomic.is_plain_name(which):
        return None
    path = driver.generation(which)
    contents = _read(path)
    return Generation(which, path, contents) if contents else None


def is_active(driver: DriverPaths, which: str) -> bool:
    """Whether ``which`` is the active generation of ``driver``."""
    return _target(driver.link, driver.name) == which


def active_names(root: Path) -> tuple[str, ...]:
    """The names of all generations that are active, whatever state they are in."""
    links = below(root, DRIVERS).glob("*")
    return tuple(name for link in links if (name := _target(link, link.name)))


def activate(driver: DriverPaths, generation: Generation) -> bool:
    """Makes ``generation`` the active one in one durable rename; False if it is already.

    Raises ConfigError where something that is not our symlink is in its place.
    """
    check_ours(driver)
    link, name = driver.link, driver.name
    scratch = f"{name}.swap"
    with writing(link):
        atomic.sweep(link.parent, scratch)
        if _target(link, name) == generation.name:
            return False
        with atomic.scratch(link.parent, scratch) as folder:
            (folder / "link").symlink_to(f".{name}/{generation.name}")
            os.replace(folder / "link", link)
            atomic.fsync_dir(link.parent)
    return True


def write_selected(driver: DriverPaths, instance: Instance) -> bool:
    """Records which instance of ``driver`` is wanted; False if it is already."""
    path = driver.selected
    with writing(path):
        return replace_file(path, f"{instance}\n")


def remove_driver(driver: DriverPaths) -> tuple[str, ...]:
    """Removes ``driver``: its link, all its generations, and what was recorded of it.

    In this order a killed run leaves nothing that looks whole. Returns the removed paths, as
    seen from inside the root.
    """
    check_ours(driver)
    link, inside = driver.link, driver.inside
    removed = []
    with writing(link):
        if os.path.lexists(link):
            link.unlink()
            atomic.fsync_dir(link.parent)
            removed.append(inside.link)
        for path in (inside.generations, inside.records):
            if below(driver.root, path).is_dir():
                atomic.remove_tree(below(driver.root, path))
                removed.append(path)
    return tuple(removed)


def check_ours(driver: DriverPaths) -> None:
    """Raises ConfigError where something that is not our symlink is in the driver's place."""
    link = driver.link
    if os.path.lexists(link) and _target(link, driver.name) is None:
        raise ConfigError(
            f"{link} is {_kind(link)}, which Modulus did not make",
            f"move it away (mv {link} {link}.old) and run the same command again",
        )


def _provide(
    home: Path,
    name: str,
    contents: Contents,
    sources: Mapping[str, Writer],
    reporter: Reporter,
) -> Generation:
    """The first whole generation called ``name``, or ``name`` with a number."""
    path = home / name
    number = 1
    while path.exists() or not _create(path, contents, sources, reporter):
        problem = _damage(path, contents, reporter)
        if problem is None:
            reporter.phase("install", f"{path.name} is there already and whole")
            _make_newest(home, path)
            return Generation(path.name, path, contents)
        reporter.warn(f"{path.name} is damaged, a new one is made: {problem}")
        number += 1
        path = home / f"{name}.{number}"
    return Generation(path.name, path, contents, changed=True)


def _make_newest(home: Path, path: Path) -> None:
    """Of several generations of one instance, makes the last wanted one the newest."""
    with contextlib.suppress(OSError):
        times = {each.parent: each.stat().st_mtime_ns for each in home.glob(f"*/{MANIFEST}")}
        if times and times.get(path) != max(times.values()):
            os.utime(path / MANIFEST)


def _create(
    path: Path, contents: Contents, sources: Mapping[str, Writer], reporter: Reporter
) -> bool:
    """Makes the generation at ``path``; False if another process was faster."""
    tree = contents.tree
    reporter.phase("install", f"{path.name}: {len(tree.files)} files, {tree.size / 1e6:.0f} MB")
    counted = counter(reporter, "install", 2 * tree.size)
    with atomic.scratch(path.parent, _SCRATCH) as folder:
        for name in _FOLDERS:
            (folder / name).mkdir()
            (folder / name).chmod(FOLDER)
        write_tree(sources, tree, folder, counted)
        problem = damage(folder, tree, counted)
        if problem:
            raise BuildError(
                f"what was copied to {path} is not what was recorded: {problem}",
                "run the same command again; if it stays, check disk and memory",
            )
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        atomic.write_json(folder / MANIFEST, manifest_value(contents, created))
        return atomic.commit_tree(folder, path)


def _damage(path: Path, contents: Contents, reporter: Reporter) -> str | None:
    if _read(path) != contents:
        return f"its {MANIFEST} is not what it was"
    return damage(path, contents.tree, counter(reporter, "install", contents.tree.size))


def _read(path: Path) -> Contents | None:
    return read_record(path / MANIFEST, parse_generation)


def _target(link: Path, name: str) -> str | None:
    """The generation's name where ``link`` is a symlink of ours, else None."""
    try:
        target = os.readlink(link)
    except OSError:
        return None
    match = re.fullmatch(rf"\.{re.escape(name)}/([^/]+)", target)
    return match[1] if match and atomic.is_plain_name(match[1]) else None


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"a symlink to {os.readlink(path)}"
    return "a folder" if path.is_dir() else "a file"
