"""Whether systemd runs this host, and which of its units this process is in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

BOOTED = "/run/systemd/system"
"""There where systemd is PID 1, sd_booted(3)."""


def systemd_runs() -> bool:
    """Whether systemd runs this host."""
    return Path(BOOTED).is_dir()


def current_unit(cgroup: Path = Path("/proc/self/cgroup")) -> str:
    """The system service this process is in, or ""; OSError without /proc."""
    for line in cgroup.read_text("utf-8").splitlines():
        _, names, path = line.split(":", 2)
        parts = path.split("/")
        if names in ("", "name=systemd") and "user.slice" not in parts:
            for part in reversed(parts):
                if part.endswith(".service"):
                    return part
    return ""


def journal_fields(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Fields by which a journal entry is found as one of this process's unit, and of its run.

    journald asks /proc for the sender's unit, and the sender may have ended by then. So
    ``journalctl -u`` would miss just the last entry, the cause of a failure. In root's entries
    it looks for the unit in these fields as well (journalctl(1), EXAMPLES).
    """
    unit = ""
    with suppress(OSError):
        unit = current_unit()
    # Without a unit the ID is of somebody else's run, inherited with the environment.
    run = environ.get("INVOCATION_ID", "") if unit else ""
    fields = {"OBJECT_SYSTEMD_UNIT": unit, "OBJECT_SYSTEMD_INVOCATION_ID": run}
    return {name: value for name, value in fields.items() if value}
