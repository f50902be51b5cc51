"""Puts folders and files into a root: durably, readable by all, and with clear errors."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from modulus.core.tree import FOLDER
from modulus.errors import BuildError, ConfigError
from modulus.host.files import atomic, sysfs
from modulus.host.files.full_disk import is_full
from modulus.host.files.paths import resolve
from modulus.host.files.regular import read_bytes

DRIVERS = "/opt/drivers"
STATE = "/var/lib/modulus"
"""Where what must last is kept, a folder for each driver."""
RUN = "/run/modulus"
"""Where what ends with the boot is kept."""

_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


def below(root: Path, path: str) -> Path:
    """Where ``path``, absolute in ``root``, lies on this machine; ConfigError for a loop."""
    with writing(root / path.lstrip("/")):
        return resolve(root, path)


def check_inside(root: Path, folder: Path) -> None:
    """Raises ConfigError where a link in ``folder`` leads out of ``root``: a write to it would
    go into another system, most often this one."""
    if root == Path("/"):
        return
    for name in sysfs.names(folder):
        path = folder / name
        real = Path(os.path.realpath(path))
        if path.is_symlink() and not real.is_relative_to(os.path.realpath(root)):
            raise ConfigError(
                f"{path} leads out of {root}, to {os.readlink(path)}",
                "have it point to a folder below it, by a relative path",
            )


def make_dirs(path: Path, *, lasting: bool = True) -> None:
    """Makes ``path`` and the missing folders above it, durably, each open to all (0755).

    Folders that are not ``lasting``, in /run and /dev, are not synced.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(FOLDER)
            if lasting:
                atomic.fsync_dir(folder.parent)
    if missing and not missing[0].is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(missing[0]))


def replace_file(path: Path, text: str, *, lasting: bool = True) -> bool:
    """Makes ``path`` hold ``text``, in one durable rename; False if it did already.

    What a killed run left beside it is swept. Files not ``lasting``, in /run, are not synced.
    """
    make_dirs(path.parent, lasting=lasting)
    atomic.sweep(path.parent, path.name)
    with contextlib.suppress(OSError):
        if read_bytes(path, follow=False) == text.encode():
            return False
    with atomic.scratch(path.parent, path.name) as folder:
        atomic.write_atomic(folder / path.name, text, lasting=lasting)
        os.replace(folder / path.name, path)
        if lasting:
            atomic.fsync_dir(path.parent)
    return True


@contextlib.contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turns an OSError while ``what`` is written into an error that says what to do.

    A full disk is a BuildError, since another try may work; where ``what`` cannot be written at
    all it is a ConfigError.
    """
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        if is_full(error):
            raise BuildError(
                f"cannot write {what}: {cause}",
                f"make room on its file system (df {existing(what)}) and run it again",
            ) from error
        if error.errno in _REFUSED:
            where = error.filename or what
            raise ConfigError(
                f"cannot write {what}: {where}: {cause}",
                "run as root on a root whose file system is writable there, or take another "
                "--root",
            ) from error
        raise


def existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path
