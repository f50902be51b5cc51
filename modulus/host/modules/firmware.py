"""Has the kernel find a driver's firmware: in its generation, or where it looks already.

The kernel has one folder of its own choice, the parameter ``path`` of firmware_class, which
comes before those of the distribution (Documentation/driver-api/firmware/fw_search_path.rst).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.tree import PLAIN
from modulus.errors import RefusedError
from modulus.host.files import atomic
from modulus.host.files.digest import hash_file
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.paths import inside
from modulus.host.files.place import below, make_dirs, writing
from modulus.host.files.record import read_record
from modulus.host.kernel.firmware_path import PARAMETER, firmware_path
from modulus.host.report.reporter import Reporter

_CLEAR_HINT = (
    "clear it (printf '\\0' > /sys/module/firmware_class/parameters/path), or take "
    "firmware_class.path off the kernel's command line and reboot"
)


@dataclass(frozen=True)
class _Record:
    """What was copied for a driver: files with their sha256, and folders made for them.

    Paths are absolute, as seen from inside the root. ``more`` is what another version of
    Modulus has recorded.
    """

    files: Mapping[str, str]
    folders: tuple[str, ...]
    more: Mapping[str, Any] = field(default_factory=dict)


def provide_firmware(driver: DriverPaths, folder: Path, reporter: Reporter) -> bool:
    """Has the kernel look for firmware in ``folder``, a generation's; False if it does already.

    A path of someone else's stays: the files are copied below it, and recorded, so that
    ``release_firmware`` takes them away again. Nothing is done for a folder without files.
    Call it before the driver is loaded, and not while another version of it is. Raises
    RefusedError where the path, or the copies, cannot be written.
    """
    wanted = {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if not wanted:
        return False
    root = driver.root
    current = firmware_path(root)
    if current is None:
        reporter.warn(
            "this kernel has no firmware_class.path: the driver finds firmware only in "
            "/lib/firmware"
        )
        return False
    ours = inside(root, folder)
    if current == ours:
        return False
    if not current or _is_ours(driver, current):
        _write(root, ours)
        reporter.phase("load", f"firmware is looked for in {ours}")
        return True
    return _copy(driver, current, wanted, reporter)


def release_firmware(driver: DriverPaths, reporter: Reporter) -> tuple[str, ...]:
    """Undoes what ``provide_firmware`` did for ``driver``; returns what it removed.

    The path is emptied only if it is ours, copies are removed only if they have not changed.
    Raises RefusedError where the path cannot be written.
    """
    removed: list[str] = []
    root = driver.root
    current = firmware_path(root)
    if current and _is_ours(driver, current):
        _write(root, "")
        removed.append(f"firmware_class.path {current}")
    record = _read_record(driver)
    for path, sha256 in record.files.items():
        file = below(root, path)
        try:
            if file.is_file() and hash_file(file) == sha256:
                file.unlink()
                removed.append(path)
        except OSError as error:
            reporter.warn(f"{path} stays: {error.strerror}")
    for path in sorted(record.folders, reverse=True):
        with contextlib.suppress(OSError):
            below(root, path).rmdir()
            removed.append(path)
    kept = driver.firmware
    with writing(kept):
        kept.unlink(missing_ok=True)
    return tuple(removed)


def _is_ours(driver: DriverPaths, path: str) -> bool:
    return below(driver.root, path).is_relative_to(driver.generations)


def _write(root: Path, value: str) -> None:
    parameter = root / PARAMETER
    try:
        _write_once(parameter, value.encode())
        if not value and firmware_path(root):
            # The kernel ignores an empty write; it takes the text before a NUL as it is
            # (sysfs_kf_write(), param_set_copystring()).
            _write_once(parameter, b"\0")
    except OSError as error:
        raise RefusedError(
            f"cannot set firmware_class.path to {value or 'nothing'}: {error.strerror}",
            "run it as root where /sys is writable; the kernel takes up to 255 characters",
        ) from error


def _write_once(path: Path, data: bytes) -> None:
    """One write, no newline: either would be part of the path."""
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)


def _copy(
    driver: DriverPaths, current: str, wanted: Mapping[str, Path], reporter: Reporter
) -> bool:
    """Copies ``wanted`` below ``current``, someone else's folder; False if all is there."""
    root, record = driver.root, _read_record(driver)
    hashes: dict[str, str] = {}
    for relative, source in wanted.items():
        path = f"{current.rstrip('/')}/{relative}"
        target = below(root, path)
        digest = hash_file(source)
        if not os.path.lexists(target):
            hashes[path] = digest
        elif not target.is_file() or hash_file(target) != digest:
            if path not in record.files:
                raise RefusedError(
                    f"{path} is not the driver's and lies where the kernel looks for its "
                    f"firmware (firmware_class.path is {current})",
                    f"move it away, or {_CLEAR_HINT}",
                )
            hashes[path] = digest
    if not hashes:
        return False
    missing = {
        str(parent)
        for path in hashes
        for parent in Path(path).parents
        if not below(root, str(parent)).is_dir()
    }
    # Recorded first, so that what a killed run left is taken away too.
    _write_record(
        driver,
        replace(
            record,
            files={**record.files, **hashes},
            folders=tuple(sorted({*record.folders, *missing})),
        ),
    )
    sources = {f"{current.rstrip('/')}/{relative}": path for relative, path in wanted.items()}
    try:
        for path in hashes:
            _copy_file(sources[path], below(root, path))
    except OSError as error:
        raise RefusedError(
            f"the kernel looks for firmware in {current} (firmware_class.path), where nothing "
            f"can be written: {error.strerror}",
            _CLEAR_HINT,
        ) from error
    reporter.phase("load", f"firmware copied to {current}, where this node looks for it")
    return True


def _copy_file(source: Path, target: Path) -> None:
    make_dirs(target.parent)
    atomic.sweep(target.parent, target.name)
    with atomic.scratch(target.parent, target.name) as scratch:
        copy = scratch / target.name
        shutil.copyfile(source, copy)
        copy.chmod(PLAIN)
        atomic.fsync_tree(scratch)
        os.replace(copy, target)
        atomic.fsync_dir(target.parent)


def _read_record(driver: DriverPaths) -> _Record:
    # Without a record, or with a damaged one, no file is known to be ours.
    return read_record(driver.firmware, _parse) or _Record({}, ())


def _parse(value: object) -> _Record:
    of = Fields(value, "the record of firmware")
    return _Record(
        of("files", forms.map_of(forms.absolute, forms.sha256)),
        of("folders", forms.list_of(forms.absolute)),
        of.rest,
    )


def _write_record(driver: DriverPaths, record: _Record) -> None:
    path = driver.firmware
    with writing(path):
        make_dirs(path.parent)
        own = {"files": dict(record.files), "folders": list(record.folders)}
        atomic.write_json(path, {**record.more, **own})
