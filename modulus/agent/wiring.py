"""Wires all that tells of events on the node to the agent that handles them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from modulus.agent.agent import Agent
from modulus.agent.commands import prove_command
from modulus.agent.loop import Loop
from modulus.agent.prebuild.prover import Prover
from modulus.agent.prebuild.reboot_hold import RebootHold
from modulus.agent.prebuild.setup import make_queue
from modulus.agent.show.bus_link import BusLink
from modulus.agent.show.instance_status import InstanceStatus
from modulus.agent.show.publisher import Publisher
from modulus.agent.watch.kernels import Kernels
from modulus.agent.watch.modules import ModuleWatch
from modulus.agent.watch.nodes import NodeWatch
from modulus.agent.watch.selection import SelectionWatch
from modulus.core.agent.events import (
    BUILD,
    KERNELS,
    SELECTED,
    WRONG,
    Event,
    EventSource,
)
from modulus.core.instance import Instance
from modulus.core.pci import PciMatch
from modulus.errors import ModulusError
from modulus.host.bus.connection import SystemBus
from modulus.host.bus.updates import NEED_REBOOT
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.recorded_state import drift, read_recorded_state
from modulus.host.kernel.facts import all_builds
from modulus.host.process.own_children import passed_on
from modulus.host.report.reporter import Reporter
from modulus.host.watch.uevents import Uevents
from modulus.pipeline.site import Site


class Wiring:
    """The watches, the bus and the builds ahead of the ``agent`` of one instance.

    ``uevents`` opens the kernel's messages, None for another root.
    """

    def __init__(
        self,
        site: Site,
        instance: Instance,
        reporter: Reporter,
        loop: Loop,
        agent: Agent,
        status: InstanceStatus,
        uevents: Callable[[], Uevents] | None,
        *,
        verbose: bool,
    ) -> None:
        self._site = replace(site, driver=instance.profile)
        self._instance = instance
        self._agent = agent
        self._status = status
        root = site.root
        self._driver = driver = DriverPaths(root, instance.profile)
        self._hold = RebootHold(root, str(instance), None, loop, reporter, self._held)
        self._prover = Prover(
            prove_command(site, verbose),
            passed_on(),
            self._to_prove,
            loop,
            agent.again,
        )
        self._queue = make_queue(
            site,
            instance,
            reporter,
            loop,
            self._tell,
            self._hold,
            self._prover,
            verbose=verbose,
        )
        self._publisher = Publisher(
            loop,
            root,
            instance,
            reporter,
            rebuild=agent.again,
            verify=agent.verify,
            metrics_dir=lambda: self._site.settings.metrics_dir,
        )
        self._bus = BusLink(loop, root, self._attach, self._detach)
        self._watches: tuple[EventSource, ...] = (
            ModuleWatch(driver, loop, self._tell, self._gpus, agent.deaf, uevents),
            NodeWatch(driver, loop, self._tell, self._deaf),
            SelectionWatch(driver, self._tell),
            Kernels(loop, root, self._kernels_changed),
        )
        agent.attach(self._queue)

    def start(self) -> None:
        """Begins to watch; a source that cannot start is reported, and ends nothing."""
        for source in (*self._watches, self._publisher, self._bus):
            try:
                source.start()
            except (ModulusError, OSError) as error:
                self._deaf(str(error))
            except Exception as error:
                self._deaf(f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """Ends all sources; a build that is a service goes on."""
        for watch in self._watches:
            watch.stop()
        self._queue.stop()
        self._hold.stop()
        self._publisher.stop()
        self._bus.stop()

    def _to_prove(self) -> frozenset[str] | None:
        if self._agent.at_work:
            # Asked again when that child has ended.
            return None
        try:
            site = replace(self._site)
            return all_builds(site.cache) if site.settings.build.prove == "idle" else None
        except ModulusError:
            # Whoever works with the settings says what is wrong with them.
            return None

    def _tell(self, event: Event) -> None:
        self._agent.tell(event)
        if event.kind in (SELECTED, KERNELS, BUILD):
            self._publisher.refresh()

    def _kernels_changed(self, event: Event) -> None:
        self._look_ahead(event.text)
        self._tell(event)

    def _look_ahead(self, why: str) -> None:
        """Has missing builds made for kernels that do not run."""
        if not self._agent.stopping:
            self._queue.look(why)

    def _deaf(self, why: str) -> None:
        self._status.warn_once("not every change on the node is noticed", f": {why}")

    def _attach(self, bus: SystemBus) -> None:
        self._publisher.attach(bus)
        bus.on_reloading(self._reloading)
        bus.on_shutdown(self._hold.shutdown)
        bus.on_update(self._update)
        self._queue.attach(bus)
        self._hold.attach(bus)

    def _detach(self) -> None:
        self._hold.detach()
        self._queue.detach()

    def _reloading(self, begun: bool) -> None:
        """Handles a reload of systemd's units, after which containers may lack devices."""
        if begun:
            return
        state = read_recorded_state(self._driver)
        wrong = drift(self._site.root, state) if state else ()
        if wrong:
            text = f"after systemd has loaded its units anew: {'; '.join(wrong)}"
            self._tell(Event(WRONG, text))

    def _update(self, status: str, version: str) -> None:
        if status == NEED_REBOOT:
            self._look_ahead(f"version {version} of the operating system waits for a reboot")

    def _held(self) -> None:
        self._status.hold(self._hold.really, self._hold.text)

    def _gpus(self) -> Sequence[PciMatch]:
        # Only now: while no GPU is missing, neither the profile nor YAML need be loaded.
        from modulus.host.config.load import load_profile

        try:
            return load_profile(self._site.root, self._instance.profile).pci
        except ModulusError as error:
            self._deaf(error.message)
            return ()
