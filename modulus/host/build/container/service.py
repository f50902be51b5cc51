"""A build as a transient service of its own, where systemd is PID 1."""

from __future__ import annotations

import os
from collections.abc import Mapping

from modulus.host.build.container.limits import Limits
from modulus.host.process import run
from modulus.host.report import own_unit

_SECONDS = 30.0


def argv(name: str, limits: Limits, env: Mapping[str, str]) -> tuple[str, ...]:
    """The command line in front of the service's own.

    The service ends with standard input, which its payload watches, and with our own unit.
    """
    properties = ["OOMPolicy=continue", "KillMode=mixed", "TimeoutStopSec=5", "Delegate=yes"]
    if limits.memory is not None:
        properties += [f"MemoryMax={limits.memory}", "MemorySwapMax=0"]
    if limits.cpus is not None:
        properties.append(f"CPUQuota={max(1, round(limits.cpus * 100))}%")
    if limits.tasks is not None:
        properties.append(f"TasksMax={limits.tasks}")
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness > 0:
        # A caller in no hurry gets a service in no hurry. Niceness counts only within a
        # control group, weights between groups.
        idle = os.sched_getscheduler(0) == os.SCHED_IDLE
        policy = "idle" if idle else "batch"
        properties += [f"Nice={niceness}", f"CPUSchedulingPolicy={policy}", "CPUWeight=10"]
        properties += ["IOSchedulingClass=idle", "IOWeight=10"]
    ours = own_unit.current_unit()
    if ours:
        # Not After=: while our own unit is still starting, this one would wait for it.
        properties.append(f"BindsTo={ours}")
    return (
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--service-type=exec",
        f"--unit={name}.service",
        # Otherwise the journal would show the whole command line at each start.
        f"--description=Kernel driver build ({name})",
        *(f"--property={text}" for text in properties),
        *(f"--setenv={key}={value}" for key, value in env.items()),
        "--",
    )


def end(name: str) -> None:
    """Kills the build's service and waits until it is gone."""
    for words in (("kill", "--signal=KILL"), ("stop",), ("reset-failed",)):
        run.run(
            ("systemctl", "--quiet", *words, f"{name}.service"),
            timeout=_SECONDS,
            ok=run.ANY_STATUS,
        )
