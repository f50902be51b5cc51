"""Locks between processes that tell who holds them.

They use flock(2): a lock ends with its process, and a killed holder leaves nothing to clean up.
The kernel's own list of locks says who holds one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from modulus.errors import LockedError
from modulus.host.files.place import make_dirs
from modulus.host.report.notify import ask_for_time
from modulus.host.report.reporter import Reporter
from modulus.redact import redact_text

LOCKS = "/run/modulus/locks"
"""Where the locks of a system are."""

_POLL_SECONDS = 0.2


@contextlib.contextmanager
def locked(
    path: Path, what: str, reporter: Reporter, timeout: float | None, *, shared: bool = False
) -> Iterator[None]:
    """Holds the lock at ``path`` on ``what``; waits ``timeout`` seconds, for ever if None.

    ``shared`` locks exclude only exclusive ones. A wait is reported once, with the holder. The
    lock's folder is made if missing, and not synced, since locks are in /run. Raises
    LockedError when the time is up, OSError where ``path`` cannot be made.
    """
    make_dirs(path.parent, lasting=False)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        acquire(handle, what, reporter, timeout, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def acquire(
    handle: int, what: str, reporter: Reporter, timeout: float | None, kind: int
) -> None:
    """Takes a flock of ``kind`` on ``handle``, otherwise as ``locked`` does."""
    deadline = None if timeout is None else time.monotonic() + timeout
    told = False
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        if deadline is not None and time.monotonic() >= deadline:
            raise LockedError(
                f"{what} is held by {_holders(handle)}",
                "wait for it to end, or raise --lock-timeout",
            )
        if not told:
            reporter.phase("wait", f"for {what}, held by {_holders(handle)}")
            told = True
            if timeout is not None:
                ask_for_time(timeout)
        time.sleep(_POLL_SECONDS)


def _holders(handle: int) -> str:
    inode = os.fstat(handle).st_ino
    text = Path("/proc/locks").read_text("utf-8")
    return ", ".join(map(_process, lock_holders(text, inode))) or "another process"


def lock_holders(proc_locks: str, inode: int) -> tuple[int, ...]:
    """The pids that hold a flock on ``inode``, from the text of /proc/locks (proc(5)).

    Lines read ``1: FLOCK ADVISORY WRITE 4242 fd:01:131 0 EOF``; those with ``->`` wait. The
    device is not compared: for some file systems it differs from stat's.
    """
    pids = []
    for line in proc_locks.splitlines():
        words = line.split()
        if words[1:2] == ["FLOCK"] and words[5].rpartition(":")[2] == str(inode):
            pids.append(int(words[4]))
    return tuple(pid for pid in pids if pid > 0)


def _process(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return f"process {pid}"
    shown = words.strip("\0").replace("\0", " ")
    return f"process {pid} ({redact_text(shown)})"
