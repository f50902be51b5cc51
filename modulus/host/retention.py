"""Removes the generations that neither a record nor the kernel nor a process needs.

Reading every process' maps and mounts is slow: it happens only for generations that nothing
else keeps.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from modulus.core.generation.generation import MANIFEST, parse_generation
from modulus.core.generation.last_good import parse_good
from modulus.core.generation.retention import Found, Records, mentioned, reasons
from modulus.core.kernel.moddep import module_name
from modulus.errors import IntegrityError
from modulus.host.files import atomic, sysfs
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import DRIVERS, below, make_dirs, writing
from modulus.host.files.record import read_record
from modulus.host.files.removal import remove_whole
from modulus.host.generation.enabled import selected_instance
from modulus.host.generation.install import active_names
from modulus.host.kernel.firmware_path import firmware_path
from modulus.host.kernel.probe import installed_kernels
from modulus.host.modules.load import loaded, read_wanted
from modulus.host.report.reporter import Reporter


@dataclass(frozen=True)
class Removed:
    """A removed generation: its old path, its size in bytes, and when it was made, in seconds
    since the epoch."""

    path: Path
    size: int
    made: float


def mark_used(driver: DriverPaths, generation: str) -> None:
    """Records that ``generation`` of ``driver`` is in use, so that it stays until the
    next boot: containers started before a switch hold the old one, and GPUs read firmware
    again. Call this before the generation is activated or loaded."""
    path = driver.used / generation
    if not path.exists():
        with writing(path):
            make_dirs(path.parent, lasting=False)
            path.touch(0o644)


def homes(root: Path) -> tuple[str, ...]:
    """The drivers that have generations, by name."""
    found = sorted(path.name[1:] for path in below(root, DRIVERS).glob(".*/"))
    return tuple(name for name in found if atomic.is_plain_name(name) and "." not in name)


def collect_generations(driver: DriverPaths, reporter: Reporter) -> tuple[Removed, ...]:
    """Removes the generations of ``driver`` that nobody needs; returns them.

    The caller holds the lock of that driver. Raises ConfigError where the folder cannot be
    written.
    """
    root, home = driver.root, driver.generations
    there = sysfs.names(home)
    names = [each for each in there if not each.startswith(".")]
    with writing(home):
        if len(names) < len(there):
            atomic.sweep(home)
        active = next((each for each in active_names(root) if each in names), None)
        if set(names) <= {active}:
            return ()
        found = [_found(home / each) for each in names if (home / each).is_dir()]
        kept = set(reasons(found, _records(driver, active)))
        rest = {one.name: one for one in found if one.name not in kept}
        for held in (_loaded, _held):
            for one in held(root, home, active, rest.values(), reporter) if rest else ():
                del rest[one]
        return tuple(_remove(home / one.name, one, reporter) for one in rest.values())


def _remove(path: Path, found: Found, reporter: Reporter) -> Removed:
    removed = Removed(path, atomic.tree_size(path), path.stat().st_mtime)
    remove_whole(path)
    what = f"{found.instance} for {found.release}" if found.instance else "without a manifest"
    reporter.phase(
        "install",
        f"{path.name} ({what}, {removed.size / 1e6:.0f} MB) is needed by nobody: removed",
    )
    return removed


def _found(path: Path) -> Found:
    contents = read_record(path / MANIFEST, parse_generation)
    if contents is None:
        return Found(path.name, None, None)
    return Found(path.name, contents.identity.instance, contents.release)


def _records(driver: DriverPaths, active: str | None) -> Records:
    root = driver.root
    return Records(
        active=active,
        selected=selected_instance(driver),
        good=_good(driver),
        kernels={*installed_kernels(root), _running(root)},
        used=sysfs.names(driver.used),
        firmware=firmware_path(root),
    )


def _running(root: Path) -> str:
    return sysfs.text(root / "proc/sys/kernel/osrelease") or ""


def _good(driver: DriverPaths) -> tuple[str, ...]:
    entries = read_record(driver.good, parse_good) or ()
    return tuple(entry.generation for entry in entries)


def _loaded(
    root: Path, home: Path, active: str | None, found: Iterable[Found], _: Reporter
) -> Collection[str]:
    """Those of ``found`` whose modules are in the kernel.

    Empty where the active generation's modules are: another generation with the same modules,
    such as with other components, is then not the loaded one.
    """
    running = _running(root)
    if active and _is_loaded(root, home / active, running):
        return ()
    return {one.name for one in found if _is_loaded(root, home / one.name, running)}


def _is_loaded(root: Path, path: Path, release: str) -> bool:
    modules = {file.stem: file for file in path.glob(f"lib/modules/{release}/*.ko")}
    there = loaded(root, modules)
    for name, file in modules.items():
        state = there.get(module_name(name))
        try:
            wanted = read_wanted(name, file) if state else None
        except IntegrityError:
            # The module in the kernel did not come from this file.
            continue
        if state and wanted:
            return (state.version, state.srcversion) == (wanted.version, wanted.srcversion)
    return False


def _held(
    root: Path, _home: Path, _active: str | None, found: Iterable[Found], reporter: Reporter
) -> Collection[str]:
    """Those of ``found`` of which a process maps a file or has a mount; all of them where a
    process cannot be read."""
    names = {one.name for one in found}
    held: set[str] = set()
    namespaces: set[str] = set()
    for process in (path for path in (root / "proc").glob("[0-9]*")):
        try:
            held |= mentioned(_read(process / "maps"), names - held)
            space = _namespace(process)
            if space is None or space not in namespaces:
                held |= mentioned(_read(process / "mountinfo"), names - held)
            namespaces.update(filter(None, (space,)))
        except PermissionError as error:
            reporter.warn(f"old generations stay: {error.filename} cannot be read")
            return names
    return held


def _namespace(process: Path) -> str | None:
    """The name of a process' mount namespace; None where it cannot be read."""
    try:
        return os.readlink(process / "ns/mnt")
    except OSError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except PermissionError:
        raise
    except OSError:
        # The process has ended, or is ending.
        return ""
