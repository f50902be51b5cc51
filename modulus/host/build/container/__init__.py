"""Build containers: where a compiler runs that sees its sources and little else.

One interface, several kinds. The payload runs as user ``build`` without capabilities or a
network, with read-only sources, within limits, and never outlives the process it works for.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from modulus.core.ids import DEFAULT, Ids
from modulus.errors import ToolchainError
from modulus.host.build.container import engine, none, nspawn
from modulus.host.build.container.base import Container, Mount, Way
from modulus.host.build.container.ids import claim, namespaces_missing
from modulus.host.build.container.limits import TASKS, Group, Limits, most_memory, open_group
from modulus.host.files import atomic
from modulus.host.report import own_unit
from modulus.host.report.reporter import Reporter, make_reporter

__all__ = [
    "TASKS",
    "Container",
    "Limits",
    "Mount",
    "choose",
    "most_memory",
    "open_container",
]

_MISSING = {
    "nspawn": nspawn.missing,
    "podman": engine.podman_missing,
    "docker": engine.docker_missing,
}
_AUTOMATIC = ("nspawn", "podman", "docker")
_INSTALL = "install systemd-container or podman"
_ALLOW = "let the kernel make user namespaces, see sysctl user.max_user_namespaces"


def choose(kind: str, reporter: Reporter) -> str:
    """The kind to use for the setting ``kind``; ToolchainError where it cannot be used."""
    hint = _ALLOW if namespaces_missing() else _INSTALL
    if kind != "auto":
        if kind != "none" and (why := _MISSING[kind]()):
            raise ToolchainError(
                f"build.container is {kind}, but {why}", f"{hint}, or set it to auto"
            )
        if kind == "none":
            reporter.warn("build.container is none: the build runs on the host itself")
        return kind
    reasons = []
    for candidate in _AUTOMATIC:
        why = _MISSING[candidate]()
        if not why:
            return candidate
        reasons.append(why)
    raise ToolchainError(f"no build container: {'; '.join(reasons)}", hint)


@contextlib.contextmanager
def open_container(
    kind: str,
    root: Path,
    mounts: Sequence[Mount],
    limits: Limits,
    name: str,
    scratch: Path,
    reporter: Reporter | None = None,
    ids: Ids = DEFAULT,
) -> Iterator[Container]:
    """A container of a ``kind`` that ``choose`` gave, over the shared, read-only ``root``.

    The payload's user becomes the owner of the writable mounts and all in them; nobody else may
    reach them. The payload's ids are a piece of ``ids`` that nobody has; ToolchainError where
    there is none. ``name`` tells builds apart, ``scratch`` is a private folder on disk.
    ``reporter`` is told what the container lacks.
    """
    reporter = reporter or make_reporter()
    name = f"modulus-build-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"
    with contextlib.ExitStack() as stack:
        first_id = stack.enter_context(claim(ids)) if os.geteuid() == 0 else None
        group, address_space = _limit(kind, limits, reporter, stack)
        if kind in ("podman", "docker"):
            # No tmpfs: runc gives it the mode of the root's own folder, not writable for all.
            temporary = stack.enter_context(atomic.scratch(scratch, "tmp"))
            mounts = (*mounts, Mount(temporary, "/tmp", writable=True))  # noqa: S108 - in the container
        ways: list[Way]
        if kind == "nspawn":
            if first_id is None:
                raise ToolchainError(nspawn.missing(), "run it as root, or install podman")
            ways = nspawn.ways(root, mounts, limits, name, first_id)
        elif kind == "podman":
            state = stack.enter_context(engine.run_folder())
            ways = engine.podman_ways(root, mounts, state, name, group, limits, first_id)
        elif kind == "docker":
            ways = engine.docker_ways(root, mounts, scratch, name, limits, first_id)
        else:
            ways = none.ways(mounts, limits, first_id)
        yield Container(
            kind,
            ways,
            reporter,
            group=group,
            address_space=address_space,
            paths=none.paths(mounts, root=first_id is not None) if kind == "none" else {},
        )


def _limit(
    kind: str, limits: Limits, reporter: Reporter, stack: contextlib.ExitStack
) -> tuple[Group | None, int | None]:
    """The group that holds the limits, or the limit on each process's address space."""
    held_by_another = kind == "docker" or (kind == "nspawn" and own_unit.systemd_runs())
    if held_by_another or limits == Limits():
        return None, None
    try:
        group = open_group(limits, at_root=kind == "podman")
    except OSError as error:
        reporter.warn(f"no control group for the build ({error}): memory is limited by process")
        return None, limits.memory
    stack.callback(group.close)
    return group, None
