"""Follows the state of a service by systemd's signals, and asks only at first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modulus.core.status.boot_hold import UnitState
from modulus.host.bus import systemd
from modulus.host.bus.calls import PROPERTIES, Peer

_NEEDED = {"Result", "ExecMainStatus"}


class UnitWatch:
    """The service ``name``; ``told`` gets its state once it is known, and each new state.

    ``later`` makes a callback wait its turn: an answer must not overtake a signal.
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
        """Takes the arguments of PropertiesChanged."""
        if interface == systemd.UNIT_SERVICE:
            # The service's values come first and wait for the unit's: a start clears the last
            # result. They are kept, since systemd forgets a unit at rest, and its result.
            self._service.update(values)
        elif interface == systemd.UNIT:
            self._unit.update(values)
            if "LoadState" in self._unit and self._service.keys() >= _NEEDED:
                state = systemd.state_of(self._unit, self._service)
                if state != self._last:
                    self._last = state
                    self._told(state)

    def _ask(self, interface: str) -> None:
        # An absent systemd is asked when it comes.
        self._peer.ask(
            self.path,
            PROPERTIES,
            "GetAll",
            "(s)",
            interface,
            answered=self._later(lambda values: self.changed(interface, values)),
        )
