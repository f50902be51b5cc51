"""Folders that hold just what a record says: hashing, checking and copying them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from modulus.core.tree import FOLDER, FileRecord, Link, Tree
from modulus.host.files.digest import hash_file
from modulus.host.files.regular import open_regular
from modulus.host.report.reporter import Reporter

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
    """Reads the file at ``path`` once; returns its record under ``name``."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return FileRecord(name, hash_file(path), status.st_size, stat.S_IMODE(status.st_mode))


def damage(folder: Path, tree: Tree, counted: Counted | None = None) -> str | None:
    """How ``folder`` differs from ``tree``, every file hashed; None if it does not."""
    return next((text for _, text in problems(folder, tree, deep=True, counted=counted)), None)


def problems(
    folder: Path, tree: Tree, *, deep: bool, counted: Counted | None = None
) -> Iterator[tuple[str, str]]:
    """Each path of ``tree`` at which ``folder`` differs from it, and how.

    Files are hashed only if ``deep``; types, sizes, modes and targets of links are checked in
    any case. Extra files are no damage: ldconfig(8) may add links to a folder of libraries.
    """
    for link in tree.links:
        problem = _link_problem(folder / link.path, link)
        if problem:
            yield link.path, f"{link.path} {problem}"
    for file in tree.files:
        problem = _file_problem(folder / file.path, file, deep)
        if problem:
            yield file.path, f"{file.path} {problem}"
        elif counted:
            counted(file.size)


def _link_problem(path: Path, link: Link) -> str | None:
    try:
        target = os.readlink(path)
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"is not the symlink it was ({error.strerror})"
    return None if target == link.target else f"points to {target}, not {link.target}"


def _file_problem(path: Path, file: FileRecord, deep: bool) -> str | None:
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return "is no file any more"
        if status.st_size != file.size:
            return f"is {status.st_size} bytes, not {file.size}"
        if stat.S_IMODE(status.st_mode) != file.mode:
            return f"has mode {stat.S_IMODE(status.st_mode):04o}, not {file.mode:04o}"
        if deep and hash_file(path) != file.sha256:
            return "has another sha256 than recorded"
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def write_tree(
    sources: Mapping[str, Writer], tree: Tree, target: Path, counted: Counted
) -> None:
    """Makes ``tree`` below ``target``; ``sources`` has each file's writer by its path."""
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
    with open_regular(source) as old, open(target, "xb") as new:
        if not _clone(old.fileno(), new.fileno()) and not _copy_range(
            old.fileno(), new.fileno()
        ):
            shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fchmod(new.fileno(), mode)


def _clone(old: int, new: int) -> bool:
    # Each file system refuses with its own error; the copy meets a real fault again.
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
            # Some file systems (FUSE, proc) report 0 bytes copied: let read(2) try.
            return copied > 0
