"""Where the system bus is, and a connection to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modulus.host.bus.calls import explained
from modulus.host.report import own_unit

_SOCKET = "/run/dbus/system_bus_socket"


def available(root: Path) -> bool:
    """Whether the system below ``root`` is this one, and has a systemd that can be asked."""
    if root != Path("/"):
        return False
    named = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "")
    return bool(named) or (own_unit.systemd_runs() and Path(_SOCKET).is_socket())


def address(root: Path) -> str | None:
    """Where the bus of the system below ``root`` is; None where that is not this system.

    It is the one in ``DBUS_SYSTEM_BUS_ADDRESS``, else the system's, there or not.
    """
    if root != Path("/"):
        return None
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or f"unix:path={_SOCKET}"


def open_connection(address: str) -> Any:
    """A connection to the bus at ``address``, or ModulusError."""
    from pydbus import connect

    # Not pydbus.SystemBus(): the whole process shares that connection, and ends with it.
    with explained("cannot reach the system bus"):
        return connect(address).con


def extend_connections() -> None:
    """Gives Gio's connections the methods that pydbus has for them."""
    import pydbus  # noqa: F401 - that is what its import does
