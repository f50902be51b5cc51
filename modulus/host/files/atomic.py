"""Files that are whole or absent: atomic writes, durable renames, tree removal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from modulus.host.files import sysfs

_T = TypeVar("_T")

_CHUNK = 1 << 20
_RANDOM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_RANDOM_LENGTH = 8
"""How names of temporary files end."""


def fsync_dir(path: Path) -> None:
    """Makes renames within ``path`` survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(path: Path) -> None:
    """Makes every file and folder below ``path`` survive a power cut."""
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            if stat.S_ISREG(file.lstat().st_mode):
                handle = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        fsync_dir(Path(folder))


def write_atomic(
    path: Path, data: bytes | str, mode: int = 0o644, *, lasting: bool = True
) -> None:
    """Replaces ``path`` by ``data`` in one rename, durably; its folder is made if missing.

    What a killed writer of ``path`` left is removed. Without ``lasting`` nothing is synced:
    /run and /dev do not outlive a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_files(path)
    with _locked_dir(path.parent, fcntl.LOCK_SH):
        handle, name = _unique(path.parent, path.name, _create)
        fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        with open(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if lasting:
                os.fsync(file.fileno())
            # Still locked, so no sweep removes it first.
            os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    if lasting:
        fsync_dir(path.parent)


def write_json(path: Path, value: object, mode: int = 0o644, *, lasting: bool = True) -> None:
    """Replaces ``path`` by ``value`` as indented JSON, as ``write_atomic`` does."""
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    write_atomic(path, text, mode, lasting=lasting)


def is_plain_name(name: object) -> bool:
    """Whether ``name`` names a file in its own folder and nowhere else."""
    return isinstance(name, str) and bool(name) and "/" not in name and name not in (".", "..")


def tree_size(path: Path) -> int:
    """The bytes of all files below ``path``; files that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def commit_tree(scratch: Path, final: Path) -> bool:
    """Renames the finished folder ``scratch`` to ``final``, durably; False if that exists."""
    scratch.chmod(0o755)
    fsync_tree(scratch)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        scratch.rename(final)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    fsync_dir(final.parent)
    return True


def remove_tree(path: Path) -> None:
    """Removes ``path`` and all below it, if there; follows no link.

    A build may nest folders deeper than a path can be long, or than there are descriptors. So
    folders are moved up before they are emptied.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        return
    try:
        waiting = _empty(top, top)
        while waiting:
            folder = waiting.pop()
            handle = os.open(
                folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top
            )
            try:
                waiting += _empty(handle, top)
            finally:
                os.close(handle)
            os.rmdir(folder, dir_fd=top)
    finally:
        os.close(top)
    path.rmdir()


def _empty(folder: int, top: int) -> list[str]:
    """Removes an open folder's files, moves its folders to ``top``; returns their names."""
    found = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
            elif folder == top:
                found.append(entry.name)
            else:
                name = os.urandom(16).hex()
                os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
                found.append(name)
    return found


@contextlib.contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A private folder below ``parent`` that is gone afterwards, whatever happened.

    It is locked while in use, so that ``sweep`` can tell what a killed process left behind.
    Only the sweeper's lock is exclusive: ``parent`` may be a scratch folder itself.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _locked_dir(parent, fcntl.LOCK_SH):
        _, folder = _unique(parent, prefix, lambda path: path.mkdir(0o700))
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        yield folder
    finally:
        try:
            remove_tree(folder)
        finally:
            os.close(handle)


def sweep(parent: Path, prefix: str = "") -> None:
    """Removes the scratch folders of ``prefix``, or of any, whose process is gone."""
    if not parent.is_dir():
        return
    with _locked_dir(parent, fcntl.LOCK_EX):
        for folder in _hidden(parent, prefix):
            with (
                contextlib.suppress(BlockingIOError, FileNotFoundError),
                _locked_dir(folder, fcntl.LOCK_EX | fcntl.LOCK_NB),
            ):
                remove_tree(folder)


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _unique(parent: Path, prefix: str, make: Callable[[Path], _T]) -> tuple[_T, Path]:
    """What ``make`` returns for a path that is free, and that path.

    tempfile does the same, but its import takes longer than all writes of a warm start.
    """
    while True:
        path = parent / f".{prefix}.{os.urandom(4).hex()}"
        with contextlib.suppress(FileExistsError):
            return make(path), path


def sweep_all(parent: Path) -> None:
    """Removes whatever killed processes left in ``parent``, scratch folders and files alike.

    A writer sweeps only what earlier writers of its file left; there may be no next writer.
    """
    for left in _hidden(parent):
        prefix, _, ending = left.name[1:].rpartition(".")
        if not _is_random(ending):
            continue
        if left.is_dir():
            sweep(parent, prefix)
        else:
            _sweep_files(parent / prefix)


def _sweep_files(path: Path) -> None:
    """Removes the temporary files of ``path`` whose writer is gone; none while others write."""
    for left in _hidden(path.parent, path.name):
        if not _is_random(left.name.removeprefix(f".{path.name}.")):
            continue
        with (
            contextlib.suppress(BlockingIOError, FileNotFoundError, IsADirectoryError),
            _locked_dir(path.parent, fcntl.LOCK_EX | fcntl.LOCK_NB),
            open(left, "rb", opener=_open_at_once) as file,
        ):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def _open_at_once(path: str, flags: int) -> int:
    """Opens ``path`` at once; a named pipe would make it wait."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _hidden(parent: Path, prefix: str = "") -> list[Path]:
    """The paths in ``parent`` named like ``.PREFIX.MORE``, with any prefix if none is given.

    No regular expression is used: each name that is written would compile one.
    """
    names = sysfs.names(parent)
    if prefix:
        return [parent / name for name in names if name.startswith(f".{prefix}.")]
    return [parent / name for name in names if name.startswith(".") and "." in name[2:]]


def _is_random(ending: str) -> bool:
    return len(ending) == _RANDOM_LENGTH and _RANDOM.issuperset(ending)


@contextlib.contextmanager
def _locked_dir(path: Path, kind: int) -> Iterator[None]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)
