"""systemd-nspawn as build container.

Where systemd is PID 1 the container is a transient service of its own, elsewhere a child in
a pid namespace that ends with us: a killed systemd-nspawn alone leaves its payload running.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from modulus.core.ids import PIECE
from modulus.host.build.container import service
from modulus.host.build.container.base import TIED, UID, Mount, Way, give_writable
from modulus.host.build.container.ids import namespaces_missing
from modulus.host.build.container.limits import Limits
from modulus.host.process import run
from modulus.host.report import own_unit

# The root is shared and read-only: no lock files beside it. /tmp is ours.
_ENV = {"SYSTEMD_NSPAWN_LOCK": "0", "SYSTEMD_NSPAWN_TMPFS_TMP": "0"}

_OPTIONS = (
    "--quiet",
    "--settings=no",
    "--register=no",
    "--keep-unit",
    "--as-pid2",
    "--read-only",
    "--private-network",
    "--no-new-privileges=yes",
    "--drop-capability=all",
    "--user=build",
    "--hostname=modulus",
    "--timezone=off",
    "--resolv-conf=off",
    "--link-journal=no",
    "--tmpfs=/tmp:mode=1777",
)


def missing() -> str:
    """Why systemd-nspawn cannot be used here; empty if it can."""
    for program in ("systemd-nspawn", "unshare"):
        if run.find(program) is None:
            return f"{program} is not installed"
    return namespaces_missing() if os.geteuid() == 0 else "systemd-nspawn needs root"


def ways(
    root: Path, mounts: Sequence[Mount], limits: Limits, name: str, first_id: int
) -> list[Way]:
    """One way only: in a user namespace with the ids from ``first_id`` on. Without a namespace
    the payload's ids would be somebody's on this system, now or later."""
    give_writable(mounts, first_id + UID)
    nspawn = _nspawn(root, mounts, limits, first_id)
    front: tuple[str, ...] = TIED
    more = Way((), ())
    if own_unit.systemd_runs():
        front = service.argv(name, limits, _ENV)
        end = partial(service.end, name)
        more = Way((), (), flags="wo", join=False, begin=end, end=end)
    argv = (*front, *nspawn, "--pipe")
    return [replace(more, argv=argv, terminal=(*TIED, *nspawn), env=_ENV)]


def _nspawn(
    root: Path, mounts: Sequence[Mount], limits: Limits, first_id: int
) -> tuple[str, ...]:
    tasks = () if limits.tasks is None else (f"--rlimit=RLIMIT_NPROC={limits.tasks}",)
    return (
        "systemd-nspawn",
        *_OPTIONS,
        # Two of one name would remove each other's folder below /run/systemd/nspawn.
        f"--machine=modulus-{os.getpid()}-{secrets.token_hex(4)}",
        f"--directory={root}",
        f"--private-users={first_id}:{PIECE}",
        # Files of the host's root are nobody's inside, which is as good for reading.
        "--private-users-ownership=off",
        *tasks,
        *map(_bind, mounts),
    )


def _bind(mount: Mount) -> str:
    source, target = (str(path).replace(":", "\\:") for path in (mount.source, mount.target))
    return f"--bind{'' if mount.writable else '-ro'}={source}:{target}"
