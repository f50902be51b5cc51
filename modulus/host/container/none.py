"""No container: the payload runs on the host itself, for who asks for that.

As root it runs as nobody, and where namespaces may be made it has no network and ends with
us; nothing keeps it from reading what all may read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from modulus.errors import ToolchainError
from modulus.host.container.base import TIED, WORK, Mount, Way, give_writable

_NOBODY = 65534
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ways(mounts: Sequence[Mount], scratch: Path) -> list[Way]:
    """In namespaces of its own, or with none where those are refused."""
    home = next((str(mount.source) for mount in mounts if mount.target == WORK), "/")
    payload = ["env", "-i", f"PATH={_PATH}", f"HOME={home}", "LANG=C.UTF-8"]
    unshare = [TIED[0], "--net", *TIED[1:]]
    if os.geteuid() == 0:
        give_writable(mounts, _NOBODY)
        _let_through(mounts, scratch)
        # The script stays root: a change of user would undo its end with its parent.
        ids = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
        bounds = ("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
        payload += ["setpriv", *ids, *bounds, "--pdeathsig=KILL"]
    else:
        unshare[1:1] = ["--user", "--map-current-user"]
    words = tuple(payload)
    return [
        Way(tuple(unshare), tuple(unshare), words),
        Way((), (), words, warning="the build has the network and may outlive a kill"),
    ]


def _let_through(mounts: Sequence[Mount], scratch: Path) -> None:
    """Lets others pass through our private folders on the way to the mounts.

    ToolchainError where a folder that is not ours to open is in the way.
    """
    for mount in mounts:
        for folder in (mount.source, *mount.source.parents):
            mode = folder.stat().st_mode
            if folder == scratch or scratch in folder.parents:
                folder.chmod(mode | 0o011)
            elif not mode & 0o001:
                raise ToolchainError(
                    f"without a container the build runs as nobody, to whom {folder} is closed",
                    "set build.container to auto, or move the cache",
                )
