"""Shows an instance's state to others: on the bus and as metrics."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from modulus.agent.loop import Loop
from modulus.agent.show.bus_object import AgentService
from modulus.core.instance import Instance
from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.bus_name import agent_name, agent_path
from modulus.core.status.bus_values import agent_values
from modulus.core.status.metrics import metrics_text
from modulus.core.status.state import State
from modulus.errors import ModulusError
from modulus.host.bus.calls import explained
from modulus.host.bus.connection import SystemBus
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import below
from modulus.host.generation.enabled import selected_instance
from modulus.host.generation.install import active_generation
from modulus.host.kernel.probe import installed_kernels, running_kernel
from modulus.host.report.reporter import Reporter
from modulus.host.status.build_counts import RECORDS, read_record
from modulus.host.status.files import STATES, read_state
from modulus.host.status.metrics import remove_metrics, write_metrics
from modulus.host.watch.monitor import FolderMonitor


class Publisher:
    """Watches the state that ``up`` and the agent write, and the record of builds.

    Give ``attach`` to the BusLink, and call ``refresh`` when another instance was selected, or
    kernels came or went. The loop calls ``rebuild`` and ``verify``, which queue what was asked
    for over the bus. ``metrics_dir`` is called once, at the start.
    """

    def __init__(
        self,
        loop: Loop,
        root: Path,
        instance: Instance,
        reporter: Reporter,
        *,
        rebuild: Callable[[], object],
        verify: Callable[[], object],
        metrics_dir: Callable[[], str | None],
    ) -> None:
        self._loop = loop
        self._root = root
        self._instance = instance
        self._driver = DriverPaths(root, instance.profile)
        self._reporter = reporter
        self._metrics_dir = metrics_dir
        self._folder: str | None = None
        self._text = ""
        self._link: str | None = None
        self._active = ""
        self._monitors: list[FolderMonitor] = []
        self._pending = False
        self._said: set[str] = set()
        nothing = agent_values(State(str(instance), None), "", "", ())
        self._service = AgentService(
            nothing, lambda: loop.after(0, rebuild), lambda: loop.after(0, verify)
        )

    def start(self) -> None:
        """Begins to show the state and its changes."""
        with contextlib.suppress(ModulusError):
            # The child that works with wrong settings reports them.
            self._folder = self._metrics_dir()
        for folder in (STATES, RECORDS):
            try:
                monitor = FolderMonitor(below(self._root, folder), self._noticed)
            except OSError as error:
                self._warn_once("what is shown on the bus and in the metrics is late", error)
            else:
                self._monitors.append(monitor)
        self.refresh()

    def stop(self) -> None:
        """Shows the last state. Metrics stay only after a failure: nobody updates them."""
        while self._monitors:
            self._monitors.pop().close()
        self.refresh()
        if self._folder and self._state().phase != "failed":
            with self._warning():
                remove_metrics(self._root, self._folder, str(self._instance))

    def attach(self, bus: SystemBus) -> None:
        """Publishes the agent's object on ``bus``."""
        name = str(self._instance)
        try:
            bus.publish(agent_name(name), agent_path(name), self._service)
        except ModulusError as error:
            self._warn_once("this agent cannot be asked over the bus", error)

    def refresh(self) -> None:
        """Reads the state, and shows what is new."""
        self._pending = False
        with self._warning():
            self._show(self._state(), read_record(self._root, str(self._instance)))

    def _show(self, state: State, record: BuildRecord) -> None:
        running = running_kernel(self._root)
        active = self._active_instance()
        kernels = record.kernels_now(
            installed_kernels(self._root),
            running.release if running else None,
            active == str(self._instance),
        )
        record = replace(record, kernels=kernels)
        selected = selected_instance(self._driver)
        values = agent_values(state, active, str(selected or ""), kernels)
        # The BusLink handles a bus that is being lost.
        with contextlib.suppress(ModulusError), explained("cannot tell the bus"):
            self._service.update(values)
        if self._folder:
            self._write(self._folder, state, record)

    def _write(self, folder: str, state: State, record: BuildRecord) -> None:
        text = metrics_text(state, record)
        if text != self._text:
            with self._warning():
                write_metrics(self._root, folder, str(self._instance), text)
                self._text = text

    def _state(self) -> State:
        name = str(self._instance)
        state = None
        with self._warning():
            state = read_state(self._root, name)
        return state or State(name, None)

    def _active_instance(self) -> str:
        """The active instance, or ""; the manifest is read only where the link has changed."""
        link = None
        with contextlib.suppress(OSError, ModulusError):
            link = os.readlink(self._driver.link)
        if link != self._link:
            active = active_generation(self._driver) if link else None
            self._link = link
            self._active = str(active.contents.identity.instance) if active else ""
        return self._active

    def _noticed(self, name: str) -> None:
        """Refreshes once for several changes at once."""
        if name in ("", f"{self._instance}.json") and not self._pending:
            self._pending = True
            self._loop.after(0, self.refresh)

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except (ModulusError, OSError) as error:
            self._warn_once("the state is not shown to others", error)
        except Exception as error:
            # Whatever a record holds: to show it is not worth the driver's upkeep.
            text = f"the state is not shown to others: {type(error).__name__}"
            self._warn_once(text, error)

    def _warn_once(self, text: str, error: Exception) -> None:
        if text not in self._said:
            self._said.add(text)
            self._reporter.warn(f"{text}: {error}")
