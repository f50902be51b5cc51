"""logind, org.freedesktop.login1(5). Its locks are taken by systemd-inhibit, not from here:
pydbus cannot hand over the file descriptor that a lock is."""

from __future__ import annotations

SERVICE = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = f"{SERVICE}.Manager"
UNIT = "systemd-logind.service"
"""Its unit. On SIGHUP it reads its settings anew."""
