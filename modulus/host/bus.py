"""systemd over D-Bus. Nothing else in Modulus imports pydbus, or knows GLib's errors."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from modulus.core.boot import UnitState, unit_name
from modulus.errors import LockedError, ModulusError, UsageError

_SOCKET = "/run/dbus/system_bus_socket"
_BOOTED = Path("/run/systemd/system")
"""There if systemd is PID 1, sd_booted(3)."""

_SERVICE = "org.freedesktop.systemd1"
_CALL_SECONDS = 25.0
_POLL_SECONDS = 0.2
_REMOTE = re.compile(r"GDBus\.Error:([\w.]+): (.*)", re.DOTALL)
_DENIED = (
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
)
_SILENT = ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout")
_PREFIX, _SUFFIX = unit_name("*").split("*")


def available(root: Path) -> bool:
    """Whether the system below ``root`` is this one, and has a systemd that can be asked."""
    if root != Path("/"):
        return False
    address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "")
    return bool(address) or (_BOOTED.is_dir() and Path(_SOCKET).is_socket())


class Systemd:
    """The system's service manager; a context manager, since it holds a connection.

    The bus is the one that ``DBUS_SYSTEM_BUS_ADDRESS`` names, else the system's. Every call
    raises UsageError where the caller may not do that, LockedError where nothing answers in
    time and ModulusError for anything else that the bus reports.
    """

    def __init__(self) -> None:
        from pydbus import connect

        address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or f"unix:path={_SOCKET}"
        self._units: dict[str, Any] = {}
        # Not pydbus.SystemBus(): that connection is the whole process's, and its end is too.
        with _explained("cannot reach the system bus"):
            self._bus = connect(address)
            with contextlib.ExitStack() as stack:
                stack.callback(self.close)
                self._manager = self._bus.get(_SERVICE, timeout=_CALL_SECONDS)[
                    f"{_SERVICE}.Manager"
                ]
                stack.pop_all()

    def __enter__(self) -> Systemd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, if the bus has not."""
        with contextlib.suppress(ModulusError), _explained("cannot leave the system bus"):
            self._bus.con.close_sync(None)

    def list_instances(self) -> tuple[str, ...]:
        """The instances of ``modulus@.service`` that systemd has in memory.

        Those are all that are started or queued, as by a boot, or have failed. One that is
        enabled and does not run may be missing.
        """
        pattern = unit_name("*")
        with _explained(f"cannot list {pattern}"):
            units = self._manager.ListUnitsByPatterns([], [pattern], timeout=_CALL_SECONDS)
        names = (str(unit[0]) for unit in units)
        return tuple(sorted(name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for name in names))

    def unit_state(self, name: str) -> UnitState:
        """What is with the unit ``name``; ``load`` is "not-found" where there is none."""
        with _explained(f"cannot ask for {name}"):
            properties = self._properties(name)
            # One answer, so that its parts are of one moment.
            unit = properties.GetAll(f"{_SERVICE}.Unit", timeout=_CALL_SECONDS)
            service = f"{_SERVICE}.Service"
            return UnitState(
                load=unit["LoadState"],
                active=unit["ActiveState"],
                sub=unit["SubState"],
                result=properties.Get(service, "Result", timeout=_CALL_SECONDS),
                exit_status=properties.Get(service, "ExecMainStatus", timeout=_CALL_SECONDS),
                job=unit["Job"][0] != 0,
                enabled=unit["UnitFileState"] in ("enabled", "enabled-runtime"),
            )

    def stop_unit(self, name: str, seconds: float) -> None:
        """Stops the unit ``name`` and waits until it has ended; LockedError after ``seconds``.

        One that does not run is fine.
        """
        deadline = time.monotonic() + seconds
        if self.unit_state(name).load == "not-found":
            return
        with _explained(f"cannot stop {name}"):
            self._manager.StopUnit(name, "replace", timeout=_CALL_SECONDS)
        while not self.unit_state(name).at_rest:
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{name} did not stop within {seconds:.0f} s",
                    f"see systemctl status {name}, then run the same command again",
                )
            time.sleep(_POLL_SECONDS)

    def _properties(self, name: str) -> Any:
        if name not in self._units:
            path = self._manager.LoadUnit(name, timeout=_CALL_SECONDS)
            unit = self._bus.get(_SERVICE, path, timeout=_CALL_SECONDS)
            self._units[name] = unit["org.freedesktop.DBus.Properties"]
        return self._units[name]


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns GLib's errors into ours; ``what`` is what could not be done."""
    from gi.repository import Gio, GLib

    try:
        yield
    except GLib.Error as error:
        # What a peer reports reads "GDBus.Error:NAME: TEXT", g_dbus_error_encode_gerror().
        remote = _REMOTE.fullmatch(error.message)
        name, cause = remote.groups() if remote else ("", error.message)
        if name in _DENIED:
            raise UsageError(f"{what}: {cause}", "run it as root") from error
        if name in _SILENT or error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.TIMED_OUT):
            raise LockedError(
                f"{what}: no answer within {_CALL_SECONDS:.0f} s",
                "see whether systemctl answers, then run the same command again",
            ) from error
        raise ModulusError(
            f"{what}: {cause}", "see whether systemctl status answers, and journalctl -b"
        ) from error
