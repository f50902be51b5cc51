"""Whether a driver is right: observations of a node in, findings out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modulus.core.findings import LEVELS, SEVERITIES, Finding, weighed
from modulus.core.gpu.census import Census, vgpu_findings
from modulus.core.health.checks.answers import check_answers
from modulus.core.health.checks.gpus import check_bound
from modulus.core.health.checks.libraries import InstalledLibrary, check_libraries
from modulus.core.health.checks.modules import LoadedModule, WantedModule, check_modules
from modulus.core.health.checks.mount import check_mount
from modulus.core.health.checks.numa import check_numa
from modulus.core.kernel.mountinfo import Mount
from modulus.core.profile.libraries import Answer, Library


@dataclass(frozen=True)
class Observed:
    """What a node shows of the driver ``instance``.

    ``wanted`` are the modules of the generation that must be loaded, ``loaded`` those that
    are, both by the names sysfs has. ``folder`` holds the libraries, by the path that programs
    know; ``mount`` is the mount of that folder. ``asked`` are the libraries to be asked, with
    None for one that is not installed. ``devices`` are the PCI addresses bound to the driver.
    ``others`` are findings of other checks: device nodes, foreign modules, rivals.
    ``numa_fix``, ``require_all_gpus`` and ``ready_when`` are the settings.
    """

    instance: str
    wanted: Mapping[str, WantedModule]
    loaded: Mapping[str, LoadedModule]
    folder: str
    census: Census
    mount: Mount | None = None
    libraries: tuple[InstalledLibrary, ...] = ()
    asked: tuple[tuple[Library, Answer | None], ...] = ()
    devices: tuple[str, ...] = ()
    several_numa_nodes: bool = False
    numa_fix: bool = False
    require_all_gpus: bool = False
    ready_when: str = LEVELS[-1]
    others: tuple[Finding, ...] = ()


def findings(observed: Observed, level: str = LEVELS[-1]) -> tuple[Finding, ...]:
    """What is wrong at ``level`` and the levels before it, level by level, the worst first.

    Only what keeps the driver from being ready is an error.
    """
    found = [
        *observed.others,
        *check_modules(observed.instance, observed.wanted, observed.loaded),
        *check_mount(observed.folder, observed.mount),
        *check_libraries(
            observed.instance, observed.folder, observed.libraries, observed.loaded
        ),
        *check_answers(observed.asked, observed.devices, observed.require_all_gpus),
        *check_bound(observed.census, observed.devices, observed.require_all_gpus),
        *vgpu_findings(observed.census),
        *check_numa(
            observed.instance,
            observed.census,
            observed.several_numa_nodes,
            observed.numa_fix,
        ),
    ]
    levels = LEVELS[: LEVELS.index(level) + 1]
    return tuple(
        sorted(
            weighed((one for one in found if one.level in levels), observed.ready_when),
            key=lambda one: (LEVELS.index(one.level), SEVERITIES.index(one.severity)),
        )
    )
