"""The counts of builds: ``/run/modulus/builds/INSTANCE.json``, for the agent to show.

The process that builds keeps them, agent or not, so they outlive it until the next boot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from modulus.core.status.build_counts import BuildRecord, parse_record
from modulus.errors import ModulusError
from modulus.host.files import atomic, record
from modulus.host.files.lock import LOCKS
from modulus.host.files.place import below, make_dirs

RECORDS = "/run/modulus/builds"


def read_record(root: Path, instance: str) -> BuildRecord:
    """What is recorded of ``instance``."""
    found = record.read_record(_path(root, instance), parse_record)
    return found or BuildRecord()


def change_record(
    root: Path, instance: str, change: Callable[[BuildRecord], BuildRecord]
) -> None:
    """Makes ``change``'s result the record of ``instance``; one change at a time.

    Where it cannot be written nothing is counted: that is worth no failed build.
    """
    with contextlib.suppress(ModulusError, OSError):
        path = _path(root, instance)
        lock = below(root, LOCKS) / "builds"
        for made in (path, lock):
            make_dirs(made.parent)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            atomic.write_json(path, change(read_record(root, instance)).value())
        finally:
            os.close(handle)


def _path(root: Path, instance: str) -> Path:
    return below(root, RECORDS) / f"{instance}.json"
