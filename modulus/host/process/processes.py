"""Finds the processes that have device nodes open or files mapped, in a root's /proc."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from modulus.core.modules.in_use import NodeSet, Process, maps_any, short_command
from modulus.host.files import sysfs
from modulus.host.files.paths import resolve

_DELETED = " (deleted)"


def processes_using(
    root: Path, nodes: NodeSet, mapped: Collection[str] = ()
) -> tuple[Process, ...]:
    """The processes but this one that have one of ``nodes`` open, or map a file below one of
    the folders ``mapped``.

    A process that cannot be read, since it has ended or is another user's, counts as no user.
    Files outside ``/dev`` are not touched, unless named as a node is, so that a network file
    system that hangs is no obstacle.
    """
    proc = root / "proc"
    pids = sorted(int(name) for name in sysfs.names(proc) if name.isdecimal())
    return tuple(
        Process(pid, _command(proc / str(pid)))
        for pid in pids
        if pid != os.getpid() and _uses(root, proc / str(pid), nodes, mapped)
    )


def _uses(root: Path, process: Path, nodes: NodeSet, mapped: Collection[str]) -> bool:
    if any(_is_one(root, link, target, nodes) for link, target in _open_files(process)):
        return True
    return bool(mapped) and maps_any(sysfs.text(process / "maps") or "", mapped)


def _open_files(process: Path) -> Iterator[tuple[Path, str]]:
    for name in sysfs.names(process / "fd"):
        with contextlib.suppress(OSError):
            yield process / "fd" / name, os.readlink(process / "fd" / name)


def _is_one(root: Path, link: Path, target: str, nodes: NodeSet) -> bool:
    path = target.removesuffix(_DELETED)
    if path in nodes.paths:
        return True
    # A container may have the node elsewhere; its name tells that it is worth a look.
    if not path.startswith("/dev/") and posixpath.basename(path) not in nodes.names:
        return False
    try:
        # The kernel's own links lead to the open file, whatever its path means here, and
        # have the mode it was opened in; those of a copied tree are ordinary ones.
        magic = stat.S_IMODE(link.lstat().st_mode) != 0o777
        found = (link if magic else resolve(root, path)).stat()
    except OSError:
        return False
    number = os.major(found.st_rdev), os.minor(found.st_rdev)
    return stat.S_ISCHR(found.st_mode) and nodes.has(*number)


def _command(process: Path) -> str:
    return short_command(sysfs.text(process / "cmdline") or "", sysfs.text(process / "comm"))
