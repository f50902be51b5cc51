"""Whether systemd runs this host, and which of its units we are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/")


def available(root: Path = _ROOT) -> bool:
    """Whether systemd is PID 1 of the system below ``root``, sd_booted(3)."""
    return (root / "run/systemd/system").is_dir()


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
    """Fields by which an entry of the journal is found as one of our unit, and of this run.

    journald asks /proc for the unit of who sent an entry, and that may have ended by then: it
    is just the last word, the cause of a failure, that ``journalctl -u`` does not show then.
    In what root has sent it looks for the unit in these as well (journalctl(1), EXAMPLES).
    """
    unit = ""
    with suppress(OSError):
        unit = current_unit()
    # Without a unit the run is somebody else's, whose environment was inherited.
    run = environ.get("INVOCATION_ID", "") if unit else ""
    fields = {"OBJECT_SYSTEMD_UNIT": unit, "OBJECT_SYSTEMD_INVOCATION_ID": run}
    return {name: value for name, value in fields.items() if value}
