"""Notices at once when a device node of the driver, or a link to one, is not right any more."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path

from modulus.agent.loop import Cancel, Loop
from modulus.core.agent.events import WRONG, Event, Tell
from modulus.core.devices.changes import link_path
from modulus.core.devices.wanted import DEV
from modulus.core.generation.recorded_state import RecordedState
from modulus.host.devices.facts import in_dev
from modulus.host.files.driver_paths import RECORDED_STATE, DriverPaths
from modulus.host.files.place import below
from modulus.host.generation.recorded_state import (
    driver_majors,
    node_drift,
    read_recorded_state,
)
from modulus.host.watch.monitor import FolderMonitor

_SETTLE = 0.1
"""Seconds. A node that is replaced may be removed first, and more may be removed with it."""

_LOADED_ANEW = 3.0
"""Seconds. Nodes of new numbers are made before those numbers are recorded."""

_MOST = 3
"""How many faults an event names at most."""


class NodeWatch:
    """Tells WRONG when a node or link of ``driver`` is other than recorded.

    The record may change at any time, and then counts. Only recorded names are looked at, and
    nothing is told where all of them are right, such as after the repair itself. ``deaf`` gets
    the reason where the kernel's limits allow no more watches.
    """

    def __init__(
        self, driver: DriverPaths, loop: Loop, tell: Tell, deaf: Callable[[str], object]
    ) -> None:
        self._driver = driver
        self._loop = loop
        self._tell = tell
        self._deaf = deaf
        self._state: RecordedState | None = None
        self._paths: frozenset[str] = frozenset()
        self._record: FolderMonitor | None = None
        self._monitors: dict[str, FolderMonitor] = {}
        self._timer: Cancel | None = None

    def start(self) -> None:
        """Begins to watch, and looks at once: something may have changed before."""
        if self._record is None:
            self._record = self._monitor(self._driver.run, self._recorded)
            self._load()

    def stop(self) -> None:
        """Watches no more."""
        if self._record:
            self._record.close()
            self._record = None
        self._watch(frozenset())
        if self._timer:
            self._timer()
            self._timer = None

    def _recorded(self, name: str) -> None:
        if name in ("", RECORDED_STATE):
            self._load()

    def _load(self) -> None:
        self._state = read_recorded_state(self._driver)
        nodes = [node for node in self._state.nodes if node.managed] if self._state else []
        self._watch(
            frozenset(path for node in nodes for path in (node.path, link_path(*node.number)))
        )
        self._look_soon()

    def _watch(self, paths: frozenset[str]) -> None:
        """Has exactly the folders of ``paths`` watched."""
        self._paths = paths
        folders = {posixpath.dirname(path) for path in paths}
        for folder in self._monitors.keys() - folders:
            self._monitors.pop(folder).close()
        dev = below(self._driver.root, DEV)
        for folder in folders - self._monitors.keys():
            there = dev if folder == DEV else in_dev(dev, folder)

            def changed(name: str, folder: str = folder) -> None:
                if not name or f"{folder}/{name}" in self._paths:
                    self._look_soon()

            monitor = self._monitor(there, changed, DEV)
            if monitor:
                self._monitors[folder] = monitor

    def _monitor(
        self, folder: Path, tell: Callable[[str], object], queue: str = ""
    ) -> FolderMonitor | None:
        try:
            return FolderMonitor(folder, tell, queue)
        except OSError as error:
            self._deaf(f"{folder}: {error.strerror}")
            return None

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.after(_SETTLE, self._look)

    def _look(self, *, patient: bool = True) -> None:
        self._timer = None
        root, state = self._driver.root, self._state
        wrong = node_drift(root, state) if state else ()
        if not wrong or state is None:
            return
        if patient and driver_majors(root, state) != state.majors:
            # The record is older than the load: by it even a repair under way looks wrong.
            self._timer = self._loop.after(_LOADED_ANEW, lambda: self._look(patient=False))
            return
        more = f" (and {len(wrong) - _MOST} more)" if len(wrong) > _MOST else ""
        self._tell(Event(WRONG, "; ".join(wrong[:_MOST]) + more))
