"""No container: the payload runs on the host itself, where the settings ask for that.

Under root the payload has an id that is nobody's and no network, and ends with us. It sees its
mounts in a mount namespace of its own, since nobody may pass through their folder on the host.
Nothing keeps it from reading what all may read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modulus.host.build.container.base import TIED, UID, WORK, Mount, Way, give_writable
from modulus.host.build.container.limits import Limits, at_most

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_AT = Path("/run/modulus/build")
"""Where root's payload sees its mounts; on the host an empty folder."""

_SHOW = " ".join(
    line.strip()
    for line in r"""
set -e; at=$1; shift;
mount -t tmpfs -o mode=755,nosuid,nodev modulus "$at";
while [ "$1" != -- ]; do
  mkdir "$2"; mount --bind "$1" "$2"; shift 2;
done;
mount -o remount,ro "$at"; shift; exec "$@"
""".strip().splitlines()
)


def paths(mounts: Sequence[Mount], *, root: bool) -> dict[str, Path]:
    """Where the payload sees each target; without ``root`` those are the sources."""
    if not root:
        return {mount.target: mount.source for mount in mounts}
    return {mount.target: _AT / mount.target.strip("/").replace("/", "-") for mount in mounts}


def ways(mounts: Sequence[Mount], limits: Limits, first_id: int | None) -> list[Way]:
    """As user ``build`` of the ids from ``first_id`` on, in namespaces and in no other way.

    Without root ``first_id`` is None: the payload is the user, in namespaces or else without.
    """
    seen = paths(mounts, root=first_id is not None)
    payload = ["env", "-i", f"PATH={_PATH}", f"HOME={seen.get(WORK, '/')}", "LANG=C.UTF-8"]
    if limits.tasks is not None:
        payload[:0] = ["prlimit", "--nproc={}:{}".format(*at_most("nproc", limits.tasks))]
    unshare = [TIED[0], "--net", *TIED[1:]]
    if first_id is None:
        unshare[1:1] = ["--user", "--map-current-user"]
        words = tuple(payload)
        warning = "the build has the network and may outlive a kill"
        return [
            Way(tuple(unshare), tuple(unshare), words),
            Way((), (), words, warning=warning),
        ]
    user = first_id + UID
    give_writable(mounts, user)
    _AT.mkdir(mode=0o755, parents=True, exist_ok=True)
    # The script stays root: after a change of user it would not end with its parent.
    bounds = ("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--pdeathsig=KILL")
    payload += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *bounds]
    argv = (*unshare, "sh", "-c", _SHOW, "sh", str(_AT), *_pairs(mounts, seen), "--")
    return [Way(argv, argv, tuple(payload))]


def _pairs(mounts: Sequence[Mount], seen: Mapping[str, Path]) -> list[str]:
    return [str(path) for mount in mounts for path in (mount.source, seen[mount.target])]
