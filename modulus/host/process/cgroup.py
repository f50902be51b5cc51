"""Finds control groups, of version 1 and 2 (cgroups(7))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hierarchy:
    """Where a controller's groups are: ``own`` is the folder of this process's group."""

    version: int
    root: Path
    own: Path


def find_hierarchies(cgroup: str, mountinfo: str) -> dict[str, Hierarchy]:
    """Hierarchies by controller, from ``/proc/self/{cgroup,mountinfo}``'s texts (cgroups(7)).

    Version 2 is under the empty name; which controllers it has is in its files.
    """
    own: dict[str, str] = {}
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    found = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        top, point = before.split(" ")[3:5]
        kind, _, options = after.split(" ")[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        names = [""] if kind == "cgroup2" else options.split(",")
        for name in own.keys() & set(names):
            # A container may be shown only its own part of the hierarchy.
            inside = os.path.relpath(own[name], top)
            if not inside.startswith(".."):
                root = Path(point)
                found[name] = Hierarchy(2 if name == "" else 1, root, root / inside)
    return found
