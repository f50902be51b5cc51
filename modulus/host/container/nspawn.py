"""systemd-nspawn as build container.

Where systemd is PID 1 the container is a transient service of its own, elsewhere a child in
a pid namespace that ends with us: a killed systemd-nspawn alone leaves its payload running.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from modulus.core.dataclass import replace
from modulus.host import run, systemd
from modulus.host.container import service
from modulus.host.container.base import TIED, UID, Mount, Way, give_writable
from modulus.host.container.limits import Limits

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
    """Why it cannot be used here; empty if it can."""
    for program in ("systemd-nspawn", "unshare"):
        if run.find(program) is None:
            return f"{program} is not installed"
    return "" if os.geteuid() == 0 else "systemd-nspawn needs root"


def ways(root: Path, mounts: Sequence[Mount], limits: Limits, name: str) -> list[Way]:
    """With a user namespace, or without one where the file system cannot map ids."""
    give_writable(mounts, UID)
    found = []
    for mapped in (True, False):
        nspawn = _nspawn(root, mounts, mapped)
        front: tuple[str, ...] = TIED
        more = Way((), ())
        if systemd.available():
            front = service.argv(name, limits, _ENV)
            end = partial(service.end, name)
            more = Way((), (), flags="wo", join=False, begin=end, end=end)
        found.append(
            replace(
                more,
                argv=(*front, *nspawn, "--pipe"),
                terminal=(*TIED, *nspawn),
                env=_ENV,
                warning="" if mapped else "no user namespace for the build container",
            )
        )
    return found


def _nspawn(root: Path, mounts: Sequence[Mount], mapped: bool) -> tuple[str, ...]:
    # Never "-U": where ids cannot be mapped it changes the owner of all files in the root.
    users = ("--private-users=pick", "--private-users-ownership=map")
    return (
        "systemd-nspawn",
        *_OPTIONS,
        # Two with one name would remove each other's folder below /run/systemd/nspawn.
        f"--machine=modulus-{os.getpid()}-{secrets.token_hex(4)}",
        f"--directory={root}",
        *(users if mapped else ("--private-users=no",)),
        *(_bind(mount, mapped) for mount in mounts),
    )


def _bind(mount: Mount, mapped: bool) -> str:
    source, target = (str(path).replace(":", "\\:") for path in (mount.source, mount.target))
    if mount.writable:
        return f"--bind={source}:{target}" + (":idmap" if mapped else "")
    return f"--bind-ro={source}:{target}"
