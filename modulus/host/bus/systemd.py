"""The system's service manager, org.freedesktop.systemd1(5)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from modulus.core.status.boot_hold import UnitState, unit_name
from modulus.core.status.bus_name import escape
from modulus.errors import LockedError, ModulusError
from modulus.host.bus import endpoint
from modulus.host.bus.calls import Peer, explained

SERVICE = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = f"{SERVICE}.Manager"
UNIT = f"{SERVICE}.Unit"
UNIT_SERVICE = f"{SERVICE}.Service"

_POLL_SECONDS = 0.2
_PREFIX, _SUFFIX = unit_name("*").split("*")


def unit_path(name: str) -> str:
    """The object of the unit ``name``, loaded or not."""
    return f"{PATH}/unit/{escape(name)}"


def state_of(unit: Mapping[str, Any], service: Mapping[str, Any]) -> UnitState:
    """The state in the properties of a ``unit`` and in those as a ``service``."""
    return UnitState(
        load=unit["LoadState"],
        active=unit["ActiveState"],
        sub=unit["SubState"],
        result=service["Result"],
        exit_status=service["ExecMainStatus"],
        job=unit["Job"][0] != 0,
        enabled=unit["UnitFileState"] in ("enabled", "enabled-runtime"),
    )


class Systemd:
    """systemd over a connection of its own, or over a given one.

    A context manager, since it holds a connection. The bus is the one that
    ``DBUS_SYSTEM_BUS_ADDRESS`` names, else the system's. Every call raises UsageError where the
    caller may not make it, LockedError where nothing answers in time and ModulusError for
    anything else that the bus reports.
    """

    def __init__(self, connection: Any = None) -> None:
        self._shared = connection is not None
        self._connection = connection or self._connect()
        self._peer = Peer(self._connection, SERVICE)

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
        """Ends the connection if it is its own and still open."""
        if not self._shared:
            with contextlib.suppress(ModulusError), explained("cannot leave the system bus"):
                self._connection.close_sync(None)

    def list_instances(self) -> tuple[str, ...]:
        """The instances of ``modulus@.service`` that systemd has in memory.

        Those are all that are started or queued, as by a boot, or have failed. One that is
        enabled and does not run may be missing.
        """
        pattern = unit_name("*")
        with explained(f"cannot list {pattern}"):
            (units,) = self._manage("ListUnitsByPatterns", "(asas)", [], [pattern])
        names = (str(unit[0]) for unit in units)
        return tuple(sorted(name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for name in names))

    def unit_state(self, name: str) -> UnitState:
        """The state of the service ``name``; ``load`` is "not-found" where there is none."""
        path = unit_path(name)
        with explained(f"cannot ask for {name}"):
            return state_of(
                # One answer, so that its parts are of one moment.
                self._peer.get_all(path, UNIT),
                {
                    word: self._peer.get(path, UNIT_SERVICE, word)
                    for word in ("Result", "ExecMainStatus")
                },
            )

    def begun_before(self, name: str, target: str) -> bool:
        """Whether the unit ``name`` was last started before ``target`` was reached, as are
        units that the boot starts with it; True while ``target`` is not reached."""
        with explained(f"cannot ask for {name} and {target}"):
            begun = self._peer.get(unit_path(name), UNIT, "InactiveExitTimestampMonotonic")
            reached = self._peer.get(unit_path(target), UNIT, "ActiveEnterTimestampMonotonic")
            return bool(reached == 0 or begun <= reached)

    def job_type(self, name: str) -> str | None:
        """The job queued or running for the unit ``name``: "start", "stop", "restart" and so
        on; None for no job."""
        with explained(f"cannot ask for the job of {name}"):
            number, path = self._peer.get(unit_path(name), UNIT, "Job")
            return str(self._peer.get(path, f"{SERVICE}.Job", "JobType")) if number else None

    def start_unit(self, name: str) -> None:
        """Starts the unit ``name`` without waiting for it; fine if it runs."""
        with explained(f"cannot start {name}"):
            self._manage("StartUnit", "(ss)", name, "replace")

    def stop_unit(self, name: str, seconds: float) -> None:
        """Stops the unit ``name`` and waits until it has ended; LockedError after ``seconds``.

        A unit that does not run is fine.
        """
        deadline = time.monotonic() + seconds
        if self.unit_state(name).load == "not-found":
            return
        with explained(f"cannot stop {name}"):
            self._manage("StopUnit", "(ss)", name, "replace")
        while not self.unit_state(name).at_rest:
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{name} did not stop within {seconds:.0f} s",
                    f"see systemctl status {name}, then run the same command again",
                )
            time.sleep(_POLL_SECONDS)

    def _manage(self, member: str, signature: str, *arguments: Any) -> tuple[Any, ...]:
        return self._peer.call(PATH, MANAGER, member, signature, *arguments)

    def _connect(self) -> Any:
        return endpoint.open_connection(endpoint.address(Path("/")) or "")
