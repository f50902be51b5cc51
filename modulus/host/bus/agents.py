"""The agents of instances, asked by ``modulus status``."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from modulus.core.status.bus_name import INTERFACE, agent_name, agent_path
from modulus.core.status.bus_values import state_of
from modulus.core.status.state import State
from modulus.errors import ModulusError
from modulus.host.bus import endpoint
from modulus.host.bus.calls import Peer, explained

_SECONDS = 2.0
"""An agent answers sooner; one that does not is not waited for."""


class Agents:
    """The agents on the bus of the system below ``root``; none where that is not this system,
    or has no bus. A context manager, since it holds a connection."""

    def __init__(self, root: Path) -> None:
        self._connection: Any = None
        if not endpoint.available(root):
            return
        try:
            self._connection = endpoint.open_connection(endpoint.address(root) or "")
        except ModulusError:
            return

    def __enter__(self) -> Agents:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is not None and not self._connection.is_closed():
            self._connection.close_sync(None)

    def state(self, instance: str) -> State | None:
        """What the agent of ``instance`` says; None where none runs or answers in time.

        Its ``kernels`` are left out.
        """
        if self._connection is None:
            return None
        peer = Peer(self._connection, agent_name(instance), seconds=_SECONDS)
        try:
            with explained(f"cannot ask the agent of {instance}"):
                state = state_of(peer.get_all(agent_path(instance), INTERFACE))
        except (ModulusError, ValueError):
            return None
        return state if state.instance == instance else None
