"""What a node has to spare for work that nobody waits for."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from modulus.errors import ModulusError, ToolchainError
from modulus.host.files.place import below, existing
from modulus.host.process.run import ANY_STATUS, run

_JOB = 1 << 30
"""Bytes of memory that one job of a compiler may need."""
_DISK = 2 << 30
"""Bytes; two builds of the largest driver known take about one and a half."""
_NICEST = 19
_SECONDS = 10.0
_SUPPLIES = "/sys/class/power_supply"


def fitting_jobs(most: int, folder: Path) -> int | str:
    """The number of jobs, at most ``most``, that a build below ``folder`` may have without
    being in anybody's way; where it is none, why."""
    free = _available_memory()
    fitting = most if free is None else min(most, free // _JOB)
    if not fitting:
        return f"{(free or 0) >> 20} MiB of memory are free, and a job may need 1 GiB"
    with contextlib.suppress(OSError):
        disk = os.statvfs(existing(folder))
        room = disk.f_bavail * disk.f_frsize
        if room < _DISK:
            return f"{room >> 20} MiB are free on the disk of {folder}, and it may need 2 GiB"
    return fitting


def make_idle(root: Path) -> None:
    """Lets this process and its children run only while no other process wants to.

    ToolchainError on a battery, which the work would drain.
    """
    if on_battery(root):
        raise ToolchainError("unproved: this node runs on a battery", "plug it in")
    os.setpriority(os.PRIO_PROCESS, 0, _NICEST)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    # Without the tool the disk's queue goes by the niceness alone.
    with contextlib.suppress(ModulusError):
        run(("ionice", "-c", "3", "-p", str(os.getpid())), timeout=_SECONDS, ok=ANY_STATUS)


def on_battery(root: Path) -> bool:
    """Whether the node runs on a battery (sysfs-class-power): one is being discharged."""
    for supply in below(root, _SUPPLIES).glob("*"):
        with contextlib.suppress(OSError):
            kind = (supply / "type").read_text().strip()
            if kind == "Battery" and (supply / "status").read_text().strip() == "Discharging":
                return True
    return False


def _available_memory() -> int | None:
    """Available bytes by the kernel's own estimate; None where unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    return None
