"""File systems that no program can be run from: a build runs what lies in the cache."""

from __future__ import annotations

import os
from pathlib import Path

from modulus.core.kernel.mountinfo import mount_of, parse_mountinfo
from modulus.errors import ToolchainError
from modulus.host.files.place import existing

_MOUNTS = Path("/proc/self/mountinfo")


def check_exec(folder: Path) -> None:
    """Raises ToolchainError where ``folder``, there or to be made, is mounted noexec.

    Container tools say of it that a user or a program is not there, and kbuild that it may not
    be run.
    """
    there = existing(folder)
    if os.statvfs(there).f_flag & os.ST_NOEXEC:
        point = _mount_point(there)
        raise ToolchainError(
            f"{point} is mounted noexec, and a build runs programs that lie in {folder}",
            f"mount it without noexec (mount -o remount,exec {point}, and in /etc/fstab), or "
            "set cache_dir to a folder on another file system",
        )


def _mount_point(path: Path) -> str:
    """Where the file system of ``path`` is mounted; ``path`` where that cannot be told."""
    try:
        mounts = parse_mountinfo(_MOUNTS.read_text("utf-8", "replace"))
    except (OSError, ValueError):
        return str(path)
    found = mount_of(str(path.resolve()), mounts)
    return found.point if found else str(path)
