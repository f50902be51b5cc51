"""The system bus. Nothing else in Modulus imports pydbus, or knows GLib's errors.

To import it costs next to nothing: pydbus is imported by who connects.
"""

from __future__ import annotations

import os
from pathlib import Path

from modulus.host.bus.systemd import Systemd

__all__ = ["SOCKET", "Systemd", "address", "available"]

SOCKET = "/run/dbus/system_bus_socket"
_BOOTED = Path("/run/systemd/system")
"""There if systemd is PID 1, sd_booted(3)."""


def available(root: Path) -> bool:
    """Whether the system below ``root`` is this one, and has a systemd that can be asked."""
    if root != Path("/"):
        return False
    named = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "")
    return bool(named) or (_BOOTED.is_dir() and Path(SOCKET).is_socket())


def address(root: Path) -> str | None:
    """Where the bus of the system below ``root`` is; None where that is not this system.

    The one that ``DBUS_SYSTEM_BUS_ADDRESS`` names, else the system's, there or not.
    """
    if root != Path("/"):
        return None
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or f"unix:path={SOCKET}"
