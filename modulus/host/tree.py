"""Folders that hold just what a record says: hashing, checking and copying them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from modulus.core.tree import FOLDER, FileRecord, Link, Tree
from modulus.host import files
from modulus.host.report import Reporter

_FICLONE = 0x40049409  # linux/fs.h, ioctl_ficlone(2)
_CHUNK = 1 << 27
# What copy_file_range(2) gives between or on file systems that cannot do it.
_UNABLE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)

Counted = Callable[[int], None]
"""Is told how many bytes were just dealt with."""

Writer = Callable[[Path, int], None]
"""Makes a file, which is not there, with a mode."""


def counter(reporter: Reporter, phase: str, total: int) -> Counted:
    """Reports each count as progress of ``phase`` towards ``total`` bytes."""
    done = 0

    def counted(size: int) -> None:
        nonlocal done
        done += size
        reporter.progress(phase, done, total, "B")

    return counted


def record_file(path: Path, name: str) -> FileRecord:
    """The record, under ``name``, of the file at ``path``, which is read once."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return FileRecord(
        name, files.sha256_file(path), status.st_size, stat.S_IMODE(status.st_mode)
    )


def damage(folder: Path, tree: Tree, counted: Counted | None = None) -> str | None:
    """In what ``folder`` differs from ``tree``, or None.

    What it holds besides is no damage: ldconfig(8) may add links to a folder of libraries.
    """
    for link in tree.links:
        try:
            target = os.readlink(folder / link.path)
        except OSError as error:
            return f"{link.path} is not the symlink it was ({error.strerror})"
        if target != link.target:
            return f"{link.path} points to {target}, not {link.target}"
    for file in tree.files:
        try:
            found = record_file(folder / file.path, file.path)
        except OSError as error:
            return f"{file.path} cannot be read ({error.strerror})"
        if found != file:
            return f"{file.path} has another {_difference(found, file)} than recorded"
        if counted:
            counted(file.size)
    return None


def write_tree(
    sources: Mapping[str, Writer], tree: Tree, target: Path, counted: Counted
) -> None:
    """Makes ``tree`` below ``target``, each file by its source, by their path in it."""
    for file in tree.files:
        path = target / file.path
        make_parents(path, target)
        sources[file.path](path, file.mode)
        counted(file.size)
    make_links(tree.links, target)


def make_links(links: tuple[Link, ...], target: Path) -> None:
    """Makes the symlinks below ``target``."""
    for link in links:
        path = target / link.path
        make_parents(path, target)
        path.symlink_to(link.target)


def make_parents(path: Path, top: Path) -> None:
    """Makes the folders between ``top`` and ``path``, open to all (0755) under any umask."""
    if path.parent != top and not path.parent.is_dir():
        make_parents(path.parent, top)
        path.parent.mkdir()
        path.parent.chmod(FOLDER)


def copy_file(source: Path, target: Path, mode: int) -> None:
    """Copies content only, sharing blocks where the file system can; never a hard link."""
    with open(source, "rb") as old, open(target, "xb") as new:
        if not _clone(old.fileno(), new.fileno()) and not _copy_range(
            old.fileno(), new.fileno()
        ):
            import shutil

            shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fchmod(new.fileno(), mode)


def _clone(old: int, new: int) -> bool:
    # Each file system refuses in its own words; what is really wrong the copy meets again.
    with contextlib.suppress(OSError):
        fcntl.ioctl(new, _FICLONE, old)
        return True
    return False


def _copy_range(old: int, new: int) -> bool:
    """Copies in the kernel; False, with nothing copied, where it cannot."""
    copied = 0
    while True:
        try:
            count = os.copy_file_range(old, new, _CHUNK)
        except OSError as error:
            if copied or error.errno not in _UNABLE:
                raise
            return False
        copied += count
        if not count:
            # Some file systems copy nothing and say so (FUSE, proc): let read(2) try.
            return copied > 0


def _difference(found: FileRecord, wanted: FileRecord) -> str:
    if found.size != wanted.size:
        return f"size ({found.size} bytes, not {wanted.size})"
    return "sha256" if found.sha256 != wanted.sha256 else f"mode ({found.mode:04o})"
