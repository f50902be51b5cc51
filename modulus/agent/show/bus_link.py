"""The connection to the system bus: made when there is one, and again after it was lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from modulus.agent.loop import Cancel, Loop
from modulus.core.agent.backoff import doubled
from modulus.errors import ModulusError
from modulus.host.bus import endpoint
from modulus.host.bus.connection import SystemBus, connect
from modulus.host.watch.monitor import FolderMonitor

_FIRST, _LONGEST = 1.0, 30.0
"""Seconds between tries: the first pause, and the longest."""


class BusLink:
    """Keeps a connection to the system bus, where ``root`` is that of the running system.

    ``attach`` gets each new connection, to subscribe to what it wants; ``detached`` is called
    when one was lost (not by ``stop``). Both are called from the loop. Tries are up to 30 s
    apart; a socket that appears is tried at once, and without one nothing is tried.
    """

    def __init__(
        self,
        loop: Loop,
        root: Path,
        attach: Callable[[SystemBus], object],
        detached: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._address = endpoint.address(root)
        self._socket = _socket(self._address or "")
        self._attach = attach
        self._detached = detached
        self._started = False
        self._failures = 0
        self._bus: SystemBus | None = None
        self._opening: Cancel | None = None
        self._timer: Cancel | None = None
        self._monitor: FolderMonitor | None = None

    def start(self) -> None:
        """Connects as soon as that is possible; returns at once."""
        if self._address is not None and not self._started:
            self._started = True
            self._seek()

    def stop(self) -> None:
        """Leaves the bus."""
        self._started = False
        self._rest(None)
        self._ignore_socket()
        if self._opening:
            self._opening()
            self._opening = None
        if self._bus:
            self._bus.close()
            self._bus = None

    def _seek(self) -> None:
        if self._socket and not self._monitor:
            # Before the first look, or a socket that comes in between would be missed.
            with contextlib.suppress(OSError):
                # Anyone may touch(1) the socket.
                self._monitor = FolderMonitor(self._socket.parent, self._noticed, "bus")
        self._try()

    def _try(self) -> None:
        self._rest(None)
        if self._bus or self._opening or not self._started:
            return
        if self._socket and not self._socket.exists():
            if not self._monitor:
                self._rest(self._loop.after(_LONGEST, self._try))
            return
        self._opening = connect(
            self._address or "", self._soon, self._opened, self._failed, self._lost
        )

    def _noticed(self, name: str) -> None:
        if self._socket and name in ("", self._socket.name):
            # By the loop, which handles errors.
            self._soon(self._try)

    def _opened(self, opened: SystemBus) -> None:
        self._opening = None
        if not self._started:
            opened.close()
            return
        self._failures = 0
        self._ignore_socket()
        self._bus = opened
        self._attach(opened)

    def _failed(self, _: ModulusError) -> None:
        # Not reported: all that needs the bus can wait, and a bus that starts is no news.
        self._opening = None
        if self._started:
            self._failures += 1
            self._again()

    def _lost(self) -> None:
        self._bus = None
        if self._started:
            self._detached()
            self._again()

    def _again(self) -> None:
        # A bus that was lost is tried after the first pause, as after one failure.
        delay = doubled(_FIRST, self._failures, _LONGEST)
        self._rest(self._loop.after(delay, self._seek))

    def _soon(self, callback: Callable[[], object]) -> None:
        self._loop.after(0, callback)

    def _rest(self, timer: Cancel | None) -> None:
        if self._timer:
            self._timer()
        self._timer = timer

    def _ignore_socket(self) -> None:
        if self._monitor:
            self._monitor.close()
            self._monitor = None


def _socket(address: str) -> Path | None:
    """The file of a D-Bus address such as ``unix:path=/run/bus,guid=...``, if it has one."""
    if ";" in address:
        return None
    kind, _, rest = address.partition(":")
    pairs = (pair.partition("=") for pair in rest.split(","))
    path = next((value for key, _, value in pairs if key == "path"), "")
    return Path(path) if kind == "unix" and path.startswith("/") and "%" not in path else None
