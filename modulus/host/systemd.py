"""Whether systemd runs this host, and which of its units we are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
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


def journal_fields(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Fields that have an entry of the journal found by our unit, and by this run of it.

    journald asks /proc for the unit of who sent an entry, and that may have ended by then: it
    is just the last word, the cause of a failure, that ``journalctl -u`` does not show then.
    These it looks for as well in what root sends, systemd.journal-fields(7).
    """
    fields = {"OBJECT_SYSTEMD_INVOCATION_ID": environ.get("INVOCATION_ID", "")}
    with suppress(OSError):
        fields["OBJECT_SYSTEMD_UNIT"] = own_unit(Path("/proc/self/cgroup").read_text("utf-8"))
    return {name: value for name, value in fields.items() if value}
