"""Follows the state of a service by what systemd tells, and asks only at first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modulus.core.status.boot_hold import UnitState
from modulus.host.bus import systemd
from modulus.host.bus.calls import PROPERTIES, Peer

_NEEDED = {"Result", "ExecMainStatus"}


class UnitWatch:
    """The service ``name``; ``told`` gets its state when that is known, and each other one.

    ``later`` makes of a callback one that waits its turn: an answer must not overtake a signal.
    """

    def __init__(
        self,
        name: str,
        peer: Peer,
        later: Callable[[Callable[..., object]], Callable[..., object]],
        told: Callable[[UnitState], object],
    ) -> None:
        self.path = systemd.unit_path(name)
        self._peer = peer
        self._later = later
        self._told = told
        self._unit: dict[str, Any] = {}
        self._service: dict[str, Any] = {}
        self._last: UnitState | None = None

    def ask(self) -> None:
        """Asks for the whole state."""
        for interface in (systemd.UNIT_SERVICE, systemd.UNIT):
            self._ask(interface)

    def changed(self, interface: str, values: dict[str, Any], _: object = None) -> None:
        """Takes what PropertiesChanged has."""
        if interface == systemd.UNIT_SERVICE:
            # Those of the service come first, and are not looked at before the rest is there:
            # a start clears the last result. They are kept, since systemd forgets a unit that
            # has come to rest, and how.
            self._service.update(values)
        elif interface == systemd.UNIT:
            self._unit.update(values)
            if "LoadState" in self._unit and self._service.keys() >= _NEEDED:
                state = systemd.state_of(self._unit, self._service)
                if state != self._last:
                    self._last = state
                    self._told(state)

    def _ask(self, interface: str) -> None:
        # A systemd that is not there will be asked when it comes.
        self._peer.ask(
            self.path,
            PROPERTIES,
            "GetAll",
            "(s)",
            interface,
            answered=self._later(lambda values: self.changed(interface, values)),
        )
