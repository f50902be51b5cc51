"""Makes a driver's device nodes in /dev what they should be, and takes them away again.

A node takes its place by one rename, so that there is always one, and never one that is open to
more users than it should be.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from modulus.core.devices.changes import (
    CHAR,
    MISSING,
    STALE,
    UNWANTED,
    Change,
    leads_to,
    node_findings,
    plan_nodes,
    removable,
)
from modulus.core.devices.wanted import DEV, DeviceNode, NodeFacts, NodeRule
from modulus.core.findings import Finding
from modulus.errors import RefusedError
from modulus.host.devices.facts import in_dev, read_facts
from modulus.host.files import sysfs
from modulus.host.files.place import below, make_dirs
from modulus.host.report.reporter import Reporter

_SCRATCH = re.compile(r"\.(.+)\.modulus")
_REFUSED = (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTDIR)


@dataclass(frozen=True)
class NodesResult:
    """The nodes that should be, how every path was found, and what could not be mended."""

    wanted: tuple[DeviceNode, ...] = ()
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything in /dev was changed."""
        return any(change.due for change in self.changes)


def provide_nodes(
    root: Path, rules: tuple[NodeRule, ...], reporter: Reporter, *, repair: bool = False
) -> NodesResult:
    """Makes the nodes of ``rules`` and their links in /dev/char; leaves right ones alone.

    ``repair`` says that all was right before: each wrong or missing node gets a line, without a
    sum.

    A foreign file, or a node that the driver wants left alone, becomes a finding. Raises
    RefusedError where nodes cannot be made, or could not be used.
    """
    if not rules:
        return NodesResult()
    dev = below(root, DEV)
    _sweep(dev, rules)
    plan = plan_nodes(rules, read_facts(root, rules))
    due = [change for change in plan.changes if change.due]
    if root == Path("/") and any(change.node for change in due):
        check_usable(dev)
    for change in due:
        with _permitted(change.path):
            _apply(dev, change)
    _tell(plan.wanted, due, reporter, repair)
    findings = node_findings(change for change in plan.changes if not change.due)
    return NodesResult(plan.wanted, plan.changes, findings)


def remove_nodes(
    root: Path, rules: tuple[NodeRule, ...], before: NodeFacts | None = None
) -> tuple[str, ...]:
    """Removes the nodes of ``rules``, their links and then empty folders; returns the paths.

    ``before`` are the facts from before the driver was unloaded, which say whether the driver
    wants its nodes left alone. Raises RefusedError where they cannot be removed.
    """
    dev = below(root, DEV)
    _sweep(dev, rules)
    now = read_facts(root, rules)
    removed = []
    for path in removable(rules, now, before or now):
        with _permitted(path), contextlib.suppress(FileNotFoundError):
            os.unlink(in_dev(dev, path))
            removed.append(path)
    for folder in sorted({rule.folder for rule in rules} - {DEV}):
        with contextlib.suppress(OSError):
            os.rmdir(in_dev(dev, folder))
            removed.append(folder)
    return tuple(removed)


def check_usable(dev: Path) -> None:
    """Raises RefusedError if devices in the folder ``dev`` cannot be opened."""
    if os.statvfs(dev).f_flag & os.ST_NODEV:
        raise RefusedError(
            f"{dev} is mounted nodev: no device in it can be opened",
            f"mount it without (mount -o remount,dev {dev}), or give this container the "
            "node's own /dev",
        )


def _apply(dev: Path, change: Change) -> None:
    there = in_dev(dev, change.path)
    if change.state == UNWANTED:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(there)
        return
    make_dirs(there.parent, lasting=False)
    if change.node:
        _replace(there, partial(_make_node, change.node))
    elif change.target:
        _replace(there, partial(os.symlink, change.target))


def _sweep(dev: Path, rules: tuple[NodeRule, ...]) -> None:
    """Removes what a killed process left beside the nodes of ``rules`` and their links."""
    for folder in {rule.folder for rule in rules} | {CHAR}:
        place = dev if folder == DEV else in_dev(dev, folder)
        for name in sysfs.names(place):
            if found := _SCRATCH.fullmatch(name):
                path = f"{folder}/{found[1]}"
                if folder == CHAR:
                    path = leads_to(_target(place / name))
                if any(rule.matches(path) for rule in rules):
                    with _permitted(path), contextlib.suppress(FileNotFoundError):
                        os.unlink(place / name)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _replace(there: Path, make: Callable[[Path], None]) -> None:
    """Lets ``make`` make a file beside ``there``, and renames it to ``there``."""
    # The form of _SCRATCH.
    scratch = there.with_name(f".{there.name}.modulus")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(scratch)
    try:
        make(scratch)
        os.replace(scratch, there)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise


def _make_node(node: DeviceNode, path: Path) -> None:
    """Makes a node that nobody may open before it has its owner, whatever the umask."""
    os.mknod(path, stat.S_IFCHR, os.makedev(node.major, node.minor))
    os.chown(path, node.uid, node.gid)
    os.chmod(path, node.mode)


@contextlib.contextmanager
def _permitted(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        hint = "run as root; in a container, as a privileged one with the node's own /dev"
        if error.errno == errno.EROFS:
            hint = "mount /dev writable; in a container, give it the node's own /dev"
        raise RefusedError(f"cannot change {path}: {error.strerror}", hint) from error


def _tell(
    wanted: tuple[DeviceNode, ...], due: list[Change], reporter: Reporter, repair: bool
) -> None:
    """Reports each node that was wrong and, without ``repair``, a sum."""
    done = {MISSING: "made", STALE: "replaced", UNWANTED: "removed"}
    for change in due:
        if repair or change.state != MISSING:
            what = change.what or "it was missing"
            reporter.phase("nodes", f"{change.path} {done[change.state]}: {what}")
    if not repair:
        made = sum(1 for change in due if change.node and change.state == MISSING)
        reporter.phase("nodes", f"{len(wanted)} device nodes, {made} of them new")
