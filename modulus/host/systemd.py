"""Whether systemd runs this host, and which of its units we are."""

from __future__ import annotations

from pathlib import Path

_RUNNING = Path("/run/systemd/system")
"""There if systemd is PID 1, sd_booted(3)."""


def available() -> bool:
    """Whether systemd runs this host."""
    return _RUNNING.is_dir()


def own_unit(cgroup: str) -> str:
    """The system service this process is in, from the text of ``/proc/self/cgroup``, or ""."""
    for line in cgroup.splitlines():
        _, names, path = line.split(":", 2)
        parts = path.split("/")
        if names in ("", "name=systemd") and "user.slice" not in parts:
            for part in reversed(parts):
                if part.endswith(".service"):
                    return part
    return ""
