"""Turns unpacked packages into a root folder that a build can run in.

It does the work of the maintainer scripts, which are not run, as far as a compile needs it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from modulus.host.files import atomic

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_UNUSED = (
    *("bash-completion", "doc", "doc-base", "gdb", "info", "initramfs-tools", "lintian"),
    *("locale", "man", "menu", "pixmaps", "polkit-1"),
)
# What update-alternatives would link.
_ALTERNATIVES = {"awk": "mawk", "which": "which.debianutils"}
_MOUNT_POINTS = ("usr/src/linux", "src", "out", "build", "dev", "proc", "run", "sys", "tmp")
# podman mounts files on these, and may not make them in a user namespace.
_MOUNTED_FILES = ("etc/hostname", "etc/hosts", "etc/resolv.conf", "run/.containerenv")
_ACCOUNTS = """\
root:x:0:0:root:/root:/bin/sh
build:x:1000:1000:build:/build:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUPS = "root:x:0:\nbuild:x:1000:\nnogroup:x:65534:\n"


def finish(root: Path) -> None:
    """Makes ``root``, where packages were unpacked, ready: merged /usr, accounts, mount points,
    no setuid or setgid programs, and nothing that all may write to. That includes ``tmp``: all
    users of the host can see it, and a build has another."""
    for name in _MERGED:
        _merge(root, name)
    for name in _UNUSED:
        atomic.remove_tree(root / "usr/share" / name)
    for name, target in _ALTERNATIVES.items():
        link = root / "usr/bin" / name
        if (link.parent / target).exists() and not os.path.lexists(link):
            link.symlink_to(target)
    for name in _MOUNT_POINTS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o755)
    for name in _MOUNTED_FILES:
        atomic.write_atomic(root / name, "")
    atomic.write_atomic(root / "etc/passwd", _ACCOUNTS)
    atomic.write_atomic(root / "etc/group", _GROUPS)
    _restrict(root)


def _merge(root: Path, name: str) -> None:
    """Moves /NAME into /usr/NAME and leaves the link that a merged system has; unpacking made
    a folder in its place."""
    top, merged = root / name, root / "usr" / name
    if top.is_dir() and not top.is_symlink():
        _move_into(top, merged)
    if merged.is_dir() and not os.path.lexists(top):
        top.symlink_to(f"usr/{name}")


def _move_into(old: Path, new: Path) -> None:
    new.mkdir(parents=True, exist_ok=True)
    for path in list(old.iterdir()):
        target = new / path.name
        if path.is_dir() and not path.is_symlink():
            _move_into(path, target)
        elif target.is_symlink() or not target.exists():
            path.replace(target)
        else:
            # A file under /usr wins over its compatibility link.
            path.unlink()
    old.rmdir()


def _restrict(root: Path) -> None:
    """Drops the rights that packages need only in an installed system: setuid, setgid, and
    write permission for group and others."""
    unwanted = stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH
    for folder, folders, names in os.walk(root):
        for path in (Path(folder, name) for name in (*folders, *names)):
            mode = path.lstat().st_mode
            if mode & unwanted and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & ~unwanted)
