"""Tells when another instance of a driver was selected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modulus.core.agent.events import SELECTED, Event, Tell
from modulus.host.files import driver_paths
from modulus.host.files.driver_paths import DriverPaths

if TYPE_CHECKING:
    from modulus.host.watch.monitor import FolderMonitor


class SelectionWatch:
    """A source of SELECTED events: another instance of ``driver`` may be selected."""

    def __init__(self, driver: DriverPaths, tell: Tell) -> None:
        self._driver = driver
        self._tell = tell
        self._monitor: FolderMonitor | None = None

    def start(self) -> None:
        """Begins to watch."""
        from modulus.host.watch.monitor import FolderMonitor

        self._monitor = self._monitor or FolderMonitor(self._driver.records, self._noticed)
        # Something may have been selected before there was a watch.
        self._tell(Event(SELECTED))

    def stop(self) -> None:
        """Ends the watch."""
        if self._monitor:
            self._monitor.close()
            self._monitor = None

    def _noticed(self, name: str) -> None:
        if name in ("", driver_paths.SELECTED):
            self._tell(Event(SELECTED))
