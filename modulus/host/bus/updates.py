"""Flatcar's update engine, com.coreos.update1 (its main.xml and dbus_service.cc)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SERVICE = "com.coreos.update1"
PATH = "/com/coreos/update1"
MANAGER = f"{SERVICE}.Manager"

NEED_REBOOT = "UPDATE_STATUS_UPDATED_NEED_REBOOT"
"""The new version is written to the other /usr, and waits for a reboot."""


def status_and_version(values: Sequence[Any]) -> tuple[str, str]:
    """The status and new version, from StatusUpdate's arguments or GetStatus's answer.

    Both hold: time of the last check, progress, status, new version, its size (``xdssx``).
    """
    return str(values[2]), str(values[3])
