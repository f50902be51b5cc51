"""Reads what decides on a driver's device nodes: /dev, and what kernel and driver say."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from modulus.core.devices.changes import CHAR
from modulus.core.devices.proc_devices import parse_chardevs
from modulus.core.devices.wanted import DEV, NodeFacts, NodeRule, Seen
from modulus.host.files import sysfs
from modulus.host.files.place import below

_KINDS = (
    (stat.S_ISREG, "regular file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "symbolic link"),
    (stat.S_ISBLK, "block device"),
)


def read_facts(root: Path, rules: tuple[NodeRule, ...]) -> NodeFacts:
    """What the kernel, the driver and /dev below ``root`` say now.

    /dev is read first, so that a node which another program makes meanwhile never looks like
    one that the driver does not know.
    """
    dev = below(root, DEV)
    seen, links = _seen(dev, rules), _links(dev)
    modules = {rule.module.replace("-", "_") for rule in rules if rule.module}
    found = ((pattern, _texts(root / "proc", pattern)) for pattern in _patterns(rules))
    return NodeFacts(
        parse_chardevs(sysfs.text(root / "proc/devices") or ""),
        frozenset(name for name in modules if _is_loaded(root, name)),
        {pattern: texts for pattern, texts in found if texts is not None},
        seen,
        links,
    )


def in_dev(dev: Path, path: str) -> Path:
    """The place of ``path``, an absolute path in /dev, if /dev lies at ``dev``."""
    return dev / path.removeprefix(f"{DEV}/")


def _patterns(rules: Iterable[NodeRule]) -> set[str]:
    return {pattern for rule in rules for pattern in rule.files()}


def _seen(dev: Path, rules: Iterable[NodeRule]) -> dict[str, Seen]:
    """What is at the paths of ``rules``, and at those of their folders that are not folders."""
    rules = tuple(rules)
    found: dict[str, Seen] = {}
    for folder in sorted({rule.folder for rule in rules}):
        there = dev if folder == DEV else in_dev(dev, folder)
        with contextlib.suppress(FileNotFoundError):
            if folder != DEV and not stat.S_ISDIR(os.lstat(there).st_mode):
                found[folder] = look(os.lstat(there))
                continue
            for name in sorted(os.listdir(there)):
                path = f"{folder}/{name}"
                if any(rule.matches(path) for rule in rules):
                    with contextlib.suppress(FileNotFoundError):
                        found[path] = look(os.lstat(there / name))
    return found


def look(status: os.stat_result) -> Seen:
    """What a file is, by lstat(2)."""
    if not stat.S_ISCHR(status.st_mode):
        kinds = (kind for is_kind, kind in _KINDS if is_kind(status.st_mode))
        return Seen(next(kinds, "pipe or socket"))
    return Seen(
        "",
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )


def _links(dev: Path) -> dict[str, str | None]:
    folder = in_dev(dev, CHAR)
    found: dict[str, str | None] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(folder):
            try:
                found[name] = os.readlink(folder / name)
            except FileNotFoundError:
                continue
            except OSError:
                found[name] = None
    return found


def _texts(proc: Path, pattern: str) -> tuple[str, ...] | None:
    """The texts of the files that ``pattern`` matches; None where its folder is missing."""
    parts = pattern.split("/")
    plain = next((i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if plain is None:
        return (sysfs.text(proc / pattern) or "",) if (proc / pattern).is_file() else None
    folder = proc.joinpath(*parts[:plain])
    if not folder.is_dir():
        return None
    files = sorted(folder.glob("/".join(parts[plain:])))
    return tuple(sysfs.text(file) or "" for file in files if file.is_file())


def _is_loaded(root: Path, name: str) -> bool:
    return sysfs.text(root / "sys/module" / name / "initstate") == "live"
