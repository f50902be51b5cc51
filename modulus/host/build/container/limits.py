"""Memory and CPU limits by a control group of our own, version 1 or 2.

An owner locks its group's folder in the cgroup file system. The lock ends with the owner,
however that ends, and holds across pid namespaces. So a group that can be locked has a dead
owner, and is emptied and removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import secrets
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modulus.host.process.cgroup import Hierarchy, find_hierarchies

PREFIX = "modulus-payload-"
_PERIOD = 100_000
"""Microseconds over which the CPU limit is held; the kernel's default."""

_GONE_WITHIN = 5.0
"""Seconds that killed processes may take to leave a group."""


TASKS = 4096
"""Tasks of a build by default: it takes some three for each job."""

_LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}


@dataclass(frozen=True)
class Limits:
    """What a payload may use: ``memory`` in bytes, swap included, a number of CPUs and tasks.

    The kernel counts tasks by user, and a payload shares its user with nobody.
    """

    memory: int | None = None
    cpus: float | None = None
    tasks: int | None = None


def most_memory() -> int:
    """Bytes that a build may have by default: nine tenths of the node's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10 * 9


def at_most(name: str, number: int) -> tuple[int, int]:
    """Our own soft and hard limit ``name`` (prlimit(1)), each at most ``number``."""
    soft, hard = (
        number if value == resource.RLIM_INFINITY else min(value, number)
        for value in resource.getrlimit(_LIMITS[name])
    )
    return soft, hard


class Group:
    """A control group with limits, for one payload; ``path`` is what runtimes call it."""

    def __init__(self, name: str, folders: Sequence[Path], traces: Sequence[Path]) -> None:
        self.path = f"/{name}"
        self._folders = tuple(folders)
        self._traces = tuple(traces)
        self._locks = tuple(hold(folder) for folder in folders)

    def join(self) -> None:
        """Moves the calling process in; for a child between fork and exec."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text("0")

    @property
    def oom_kills(self) -> int:
        """How many processes the kernel has killed here for want of memory."""
        count = 0
        for folder in self._folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError, ValueError):
                    words = (folder / name).read_text().split()
                    count += int(words[words.index("oom_kill") + 1])
        return count

    def close(self) -> None:
        """Kills what is still inside and removes the group."""
        for folder in (*self._traces, *self._folders):
            _remove(folder)
        for lock in self._locks:
            os.close(lock)


def open_group(limits: Limits, *, at_root: bool = False, proc: Path = Path("/proc")) -> Group:
    """A new group below this process's own, or below the root, where a runtime puts its own.

    Raises OSError where this process may not make one or a controller is missing.
    """
    hierarchies = find_hierarchies(
        (proc / "self/cgroup").read_text(), (proc / "self/mountinfo").read_text()
    )
    values = _values(limits, hierarchies)
    in_no_hurry = os.getpriority(os.PRIO_PROCESS, 0) > 0
    of_cpu = hierarchies.get("cpu") or hierarchies.get("")
    if in_no_hurry and of_cpu and of_cpu.version == 1:
        values.setdefault(of_cpu, {})
    parents = {item: item.root if at_root else item.own for item in values}
    # A runtime makes a group of the same name in every hierarchy.
    roots = {item.root for item in hierarchies.values()} if at_root else set()
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as locked, contextlib.ExitStack() as undo:
        for parent in sorted(parents.values()):
            # Otherwise another sweep could remove the new group before it is held.
            locked.callback(os.close, hold(parent, wait=True))
            _sweep(parent, roots)
        folders = []
        for hierarchy, parent in parents.items():
            if hierarchy.version == 2:
                _enable(parent, values[hierarchy])
            folders.append(parent / name)
            folders[-1].mkdir()
            undo.callback(_remove, folders[-1])
            for file, value in values[hierarchy].items():
                # Swap is not accounted everywhere.
                if "sw" not in file or (folders[-1] / file).exists():
                    (folders[-1] / file).write_text(value)
            if in_no_hurry and hierarchy == of_cpu:
                _weigh_least(hierarchy, parent, folders[-1])
        group = Group(name, folders, sorted({root / name for root in roots} - set(folders)))
        undo.pop_all()
    return group


def _values(
    limits: Limits, hierarchies: Mapping[str, Hierarchy]
) -> dict[Hierarchy, dict[str, str]]:
    """The files to write in each hierarchy, in order."""
    values: dict[Hierarchy, dict[str, str]] = {}

    def want(controller: str, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        hierarchy = hierarchies.get(controller) or hierarchies.get("")
        if hierarchy is None:
            raise FileNotFoundError(f"no {controller} controller")
        files = old if hierarchy.version == 1 else new
        values.setdefault(hierarchy, {}).update(files)

    if limits.memory is not None:
        size = str(limits.memory)
        want(
            "memory",
            {"memory.limit_in_bytes": size, "memory.memsw.limit_in_bytes": size},
            {"memory.max": size, "memory.swap.max": "0"},
        )
    if limits.cpus is not None:
        quota = str(int(limits.cpus * _PERIOD))
        want(
            "cpu",
            {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": quota},
            {"cpu.max": f"{quota} {_PERIOD}"},
        )
    return values


def _weigh_least(hierarchy: Hierarchy, parent: Path, folder: Path) -> None:
    """Makes a group give way to others: niceness counts only within a group, weights between
    groups. A weight is no limit: a group that cannot have one goes without."""
    file, value = ("cpu.shares", "2") if hierarchy.version == 1 else ("cpu.weight", "1")
    with contextlib.suppress(OSError):
        if hierarchy.version == 2:
            _enable(parent, [file])
        (folder / file).write_text(value)


def _enable(parent: Path, files: Iterable[str]) -> None:
    """Lets groups below ``parent`` have the controllers of ``files`` (version 2)."""
    control = parent / "cgroup.subtree_control"
    missing = {file.split(".")[0] for file in files} - set(control.read_text().split())
    if missing:
        control.write_text(" ".join(f"+{name}" for name in sorted(missing)))


def _sweep(parent: Path, roots: Iterable[Path]) -> None:
    """Removes the groups below ``parent`` whose owners are dead."""
    for folder in parent.glob(f"{PREFIX}*"):
        # Held by its owner, or removed by another sweep.
        with contextlib.suppress(OSError):
            held = hold(folder)
            for stale in (*(root / folder.name for root in roots), folder):
                _remove(stale)
            os.close(held)


def _remove(folder: Path) -> None:
    """Kills all processes in ``folder`` and below and removes it; what does not die stays."""
    deadline = time.monotonic() + _GONE_WITHIN
    while folder.exists() and time.monotonic() < deadline:
        for below, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                for pid in map(int, Path(below, "cgroup.procs").read_text().split()):
                    # Zero stands for a process outside our pid namespace.
                    if pid > 0:
                        os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.rmdir(below)
        if folder.exists():
            time.sleep(0.01)


def hold(folder: Path, *, wait: bool = False) -> int:
    """Locks ``folder`` for as long as the handle is open and this process lives.

    Raises OSError where another holds it and ``wait`` is not set.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(handle)
        raise
    return handle
