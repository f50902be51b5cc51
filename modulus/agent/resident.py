"""``up --watch``: has the driver brought up and stays, as the unit's main process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modulus.agent.agent import Agent
from modulus.agent.commands import command
from modulus.agent.job_queue import Work
from modulus.agent.loop import Loop
from modulus.agent.show.instance_status import InstanceStatus
from modulus.agent.task import Task
from modulus.core.agent.events import EventSource
from modulus.core.instance import Instance, parse_instance
from modulus.core.status.boot_hold import unit_name
from modulus.errors import ModulusError, UsageError
from modulus.host.process.own_children import passed_on
from modulus.host.report.notify import make_notifier, watchdog_seconds
from modulus.host.report.reporter import Reporter
from modulus.host.watch.uevents import Uevents
from modulus.pipeline.site import Site

if TYPE_CHECKING:
    from modulus.host.bus.systemd import Systemd


def watch(site: Site, instance: Instance, reporter: Reporter, *, verbose: bool = False) -> int:
    """Keeps ``instance`` up below the site's root until told to end; returns an exit code.

    ``modulus`` does the work, in child processes.
    """
    reporter.about(instance=str(instance))
    # As daemons do, or the file system it was started in could not be unmounted.
    site = replace(site, config=site.config.absolute() if site.config else None)
    os.chdir("/")
    # Before the first child looks for GPUs, or a GPU that comes just then would be missed.
    uevents = _open_uevents(site.root)
    return Resident(site, instance, reporter, uevents, verbose=verbose).run()


class Resident:
    """An agent; the parts that load slowly come after its first child."""

    def __init__(
        self,
        site: Site,
        instance: Instance,
        reporter: Reporter,
        uevents: Callable[[], Uevents] | None,
        *,
        verbose: bool,
    ) -> None:
        self._site = site
        self._instance = instance
        self._reporter = reporter
        self._uevents = uevents
        self._verbose = verbose
        self._loop = Loop()
        self._status = InstanceStatus(site.root, str(instance), make_notifier(), reporter)
        task = Task(
            root=site.root,
            instance=instance,
            command=self._command,
            env=passed_on(status=True),
            inputs=self._inputs,
            waits=lambda: _waits(site, instance),
            at_boot=lambda: _at_boot(site.root, instance),
            stopped=lambda: _is_stopped(site.root, instance),
        )
        self._agent = Agent(task, self._loop, self._status, reporter)

    def run(self) -> int:
        """Runs until it is told to end; returns an exit code."""
        return self._agent.run(watchdog_seconds(), self._make_sources)

    def _make_sources(self) -> tuple[EventSource, ...]:
        from modulus.agent.wiring import Wiring

        return (
            Wiring(
                self._site,
                self._instance,
                self._reporter,
                self._loop,
                self._agent,
                self._status,
                self._uevents,
                verbose=self._verbose,
            ),
        )

    def _command(self, work: Work, *, pending: bool) -> Sequence[str]:
        instance = _at_work(self._site.root, self._instance) if pending else self._instance
        return command(self._site, str(instance), work, self._verbose)

    def _inputs(self) -> str:
        # Needed only after a failure.
        from modulus.agent.inputs_digest import inputs_digest

        return inputs_digest(self._site.root, self._site.config)


def _open_uevents(root: Path) -> Callable[[], Uevents] | None:
    if root != Path("/"):
        return None
    first: list[Uevents] = []
    with contextlib.suppress(OSError):
        first.append(Uevents())
    return lambda: first.pop() if first else Uevents()


def _at_work(root: Path, instance: Instance) -> Instance:
    """The instance whose driver is loaded; ``instance`` where that is not known."""
    from modulus.host.files.driver_paths import DriverPaths
    from modulus.host.generation.recorded_state import read_recorded_state

    state = read_recorded_state(DriverPaths(root, instance.profile))
    with contextlib.suppress(UsageError):
        return parse_instance(state.instance, "") if state else instance
    return instance


def _waits(site: Site, instance: Instance) -> bool:
    try:
        return replace(site, driver=instance.profile).settings.switch_busy == "wait"
    except ModulusError:
        return False


def _at_boot(root: Path, instance: Instance) -> bool:
    """Whether the boot has started the unit; without systemd, a person has.

    The time of the start tells: the boot may be over before this process can ask.
    """
    try:
        with _systemd(root) as systemd:
            unit = unit_name(str(instance))
            return systemd is not None and systemd.begun_before(unit, "default.target")
    except ModulusError:
        # systemd is too busy to answer. The role at a boot changes less.
        return True


def _is_stopped(root: Path, instance: Instance) -> bool:
    """Whether systemd stops the unit, rather than restarts it."""
    try:
        with _systemd(root) as systemd:
            job = systemd.job_type(unit_name(str(instance))) if systemd else "stop"
            return job == "stop"
    except ModulusError:
        return False


@contextlib.contextmanager
def _systemd(root: Path) -> Iterator[Systemd | None]:
    """systemd, where it has started this process and can be asked."""
    from modulus.host.bus import endpoint
    from modulus.host.bus.systemd import Systemd

    if not endpoint.available(root) or "NOTIFY_SOCKET" not in os.environ:
        yield None
        return
    with Systemd() as systemd:
        yield systemd
