"""Puts the queue of builds ahead together, from an agent's options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from modulus import __version__
from modulus.agent.commands import ahead_command
from modulus.agent.inputs_digest import settings_digest
from modulus.agent.loop import Loop
from modulus.agent.prebuild.prover import Prover
from modulus.agent.prebuild.queue import Prebuild, PrebuildQueue
from modulus.agent.prebuild.reboot_hold import RebootHold
from modulus.agent.prebuild.record import KernelRecord
from modulus.core.agent.events import Event
from modulus.core.instance import Instance
from modulus.core.kernel.upcoming import Kernel
from modulus.core.status.boot_hold import build_unit_name
from modulus.core.store.keys import digest
from modulus.errors import ModulusError
from modulus.host.build.proofs import why_condemned
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import active_generation
from modulus.host.kernel.facts import being_installed, kernel_facts, stored_builds
from modulus.host.kernel.probe import running_kernel
from modulus.host.process.own_children import passed_on
from modulus.host.report import own_unit
from modulus.host.report.reporter import Reporter
from modulus.pipeline.site import Site


def make_queue(
    site: Site,
    instance: Instance,
    reporter: Reporter,
    loop: Loop,
    tell: Callable[[Event], object],
    hold: RebootHold | None,
    prover: Prover | None = None,
    *,
    verbose: bool = False,
) -> PrebuildQueue:
    """The queue for an agent with these options.

    Its builds are a service where systemd runs and knows the same settings, else children.
    """
    name = str(instance)
    own_settings = bool(site.config or site.assignments)
    ahead = Prebuild(
        instance=name,
        unit=(
            build_unit_name(name)
            if site.root == Path("/") and own_unit.systemd_runs() and not own_settings
            else None
        ),
        command=ahead_command(site, name, verbose),
        env=passed_on(),
        kernels=lambda: next_kernels(site, instance),
        hold_reboot=HoldSetting(replace(site, driver=instance.profile)),
        being_installed=lambda releases: being_installed(site.root, releases),
    )
    record = KernelRecord(
        site.root, name, lambda error: reporter.warn(f"builds ahead are not noted: {error}")
    )
    return PrebuildQueue(ahead, record, loop, reporter, tell, hold, prover=prover)


class HoldSetting:
    """Gives ``hold_reboot`` as it is now, None while it was never right.

    The settings are read where any of their files has changed.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._digest: str | None = None
        self._seconds: float | None = None

    def __call__(self) -> float | None:
        digest = settings_digest(self._site.root, self._site.config)
        if digest != self._digest:
            self._digest = digest
            # Whoever works with the settings says what is wrong with them.
            with contextlib.suppress(ModulusError):
                # By a copy of the site, since a site reads its settings once.
                self._seconds = replace(self._site).settings.hold_reboot
        return self._seconds


def next_kernels(site: Site, instance: Instance) -> Mapping[str, Kernel]:
    """The installed kernels that do not run, each with what tells whether it is done.

    The running kernel is among them where its modules are to be built again.
    """
    root = site.root
    running = running_kernel(root)
    facts = kernel_facts(root)
    active = active_generation(DriverPaths(root, instance.profile))
    if running and not (active and why_condemned(root, active)):
        facts.pop(running.release, None)
    if not facts:
        return {}
    # Another version of Modulus may build otherwise.
    settings = [__version__, settings_digest(root, site.config), *site.assignments]
    cache: Path | None = None
    # Whoever works with the settings says what is wrong with them.
    with contextlib.suppress(ModulusError):
        # By a copy of the site, since a site reads its settings once.
        cache = replace(site).cache
    return {
        release: Kernel(
            digest([*settings, fact]), stored_builds(cache, release) if cache else frozenset()
        )
        for release, fact in facts.items()
    }
