"""Claims ids for a build that nothing else on this system has or will be given."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from modulus.core.ids import (
    Ids,
    free,
    of_accounts,
    of_grants,
    of_map,
    of_own_map,
    of_process,
)
from modulus.errors import ToolchainError

_LOCKS = "run/modulus/ids"
_GIVEN = {"run/systemd/nspawn-uid": 65536, "run/systemd/dynamic-uid": 1}
"""The folders with a file for each range that systemd has given out, named by its first id, and
the ids in a range (systemd-nspawn(1) ``--private-users=pick``, systemd.exec(5)
``DynamicUser=``)."""


def namespaces_missing(root: Path = Path("/")) -> str:
    """Why no user namespace can be made here; empty if one can. ``root`` is for tests."""
    if not os.path.lexists(root / "proc/self/ns/user"):
        return "this kernel has no user namespaces"
    if _text(root / "proc/sys/user/max_user_namespaces").strip() == "0":
        return "user namespaces are forbidden (user.max_user_namespaces is 0)"
    return ""


@contextlib.contextmanager
def claim(wanted: Ids, root: Path = Path("/")) -> Iterator[int]:
    """The first id of a piece of ``wanted``, ours until the context or this process ends.

    ``root`` is for tests. ToolchainError where no piece is free.
    """
    locks = root / _LOCKS
    locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    users, groups = (
        list(of_own_map(_text(root / "proc/self" / name))) for name in ("uid_map", "gid_map")
    )
    for piece in free(wanted, _taken(root)):
        if not all(any(ids.holds(piece) for ids in there) for there in (users, groups)):
            continue  # Our own namespace does not have them.
        handle = os.open(
            locks / str(piece.first), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        try:
            yield piece.first
        finally:
            os.close(handle)
        return
    raise ToolchainError(
        f"no ids are free for a build in {wanted}",
        "set build.ids to a range that no account, no /etc/subuid and no container has",
    )


def _taken(root: Path) -> Iterator[Ids]:
    """The ids that accounts, grants, systemd and processes have."""
    for name in ("passwd", "group"):
        yield from of_accounts(_text(root / "etc" / name))
    for name in ("subuid", "subgid"):
        yield from of_grants(_text(root / "etc" / name))
    for folder, count in _GIVEN.items():
        for name in _names(root / folder):
            if name.isascii() and name.isdigit():
                yield Ids(int(name), int(name) + count - 1)
    for pid in filter(str.isdigit, _names(root / "proc")):
        process = root / "proc" / pid
        yield from of_process(_text(process / "status"))
        for name in ("uid_map", "gid_map"):
            yield from of_map(_text(process / name))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _text(path: Path) -> str:
    """The text of ``path``; empty without one, as of a process that has ended."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
