"""Takes other drivers' modules off our GPUs, where that takes nothing away from anyone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from modulus.core.findings import Finding
from modulus.core.gpu.census import Census
from modulus.core.kernel.moddep import module_name
from modulus.core.modules.in_use import NodeSet
from modulus.core.modules.rivals import (
    Removal,
    Rival,
    RivalsResult,
    decide,
    not_unbound,
    reboot_needed,
    stays_loaded,
    users_first,
)
from modulus.errors import ModulusError
from modulus.host.files import sysfs
from modulus.host.gpu.display import display_nodes, free_console, has_the_console
from modulus.host.modules.in_use import module_use
from modulus.host.modules.unload import UNLOAD_SECONDS
from modulus.host.process.processes import processes_using
from modulus.host.process.uninterruptible import shelter
from modulus.host.report.reporter import Reporter

_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_TRIES, _PAUSE = 4, 0.5
"""A module that was just unbound may be held for a moment more, by udev or its own work."""


def remove_rivals(
    root: Path,
    rivals: Iterable[str],
    census: Census,
    reporter: Reporter,
    *,
    force: bool,
    force_setting: str,
) -> RivalsResult:
    """Takes the modules ``rivals`` off the usable GPUs of ``census`` and unloads them.

    A rival in use is left alone, unless ``force`` (the setting ``force_setting``) says
    otherwise; a finding then says that a reboot is needed. Helper modules that a rival had
    loaded stay. Where no rival is loaded this only looks at ``/sys/module`` for each.
    """
    loaded = [name for name in map(module_name, rivals) if _folder(root, name).is_dir()]
    order = users_first((name, sysfs.names(_folder(root, name) / "holders")) for name in loaded)
    unbound: list[str] = []
    findings: list[Finding] = []
    for name in order:
        rival = observe(root, name, census)
        removal = decide(rival, force=force)
        if removal.blocked:
            findings.append(reboot_needed(rival, removal.blocked, force_setting))
            continue
        done, problems = _unbind(root, rival, removal, reporter)
        unbound += done
        if removal.unload and not problems:
            problems = _unload(rival, reporter)
        findings += problems
    return RivalsResult(tuple(unbound), tuple(findings))


def observe(root: Path, module: str, census: Census) -> Rival:
    """What the rival ``module`` has, and who uses it through our GPUs."""
    usable = {gpu.address for gpu in census.usable}
    bound = _bound(root, module) | {gpu.address for gpu in census.held_by([module])}
    gpus = tuple(sorted(bound & usable))
    nodes = display_nodes(root, gpus)
    return Rival(
        module,
        module_use(root, module),
        gpus,
        tuple(sorted(bound - usable)),
        console=has_the_console(root, gpus),
        # A device without any display needs no look at every process.
        processes=processes_using(root, nodes) if nodes != NodeSet() else (),
    )


def _folder(root: Path, module: str) -> Path:
    return root / "sys/module" / module


def _bound(root: Path, module: str) -> set[str]:
    """The PCI devices bound to any driver of ``module``; a driver may have another name."""
    drivers = [
        name.removeprefix("pci:")
        for name in sysfs.names(_folder(root, module) / "drivers")
        if name.startswith("pci:")
    ]
    return {
        name
        for driver in drivers
        for name in sysfs.names(root / "sys/bus/pci/drivers" / driver)
        if _ADDRESS.fullmatch(name)
    }


def _unbind(
    root: Path, rival: Rival, removal: Removal, reporter: Reporter
) -> tuple[list[str], list[Finding]]:
    """Unbinds GPUs from ``rival``; returns their addresses, and what the kernel refused."""
    done: list[str] = []
    problems: list[Finding] = []
    if removal.free_console:
        reporter.phase("load", f"taking the console off {rival.module}")
        try:
            free_console(root)
        except OSError as error:
            why = f"the console stays on it: {error.strerror}"
            return done, [not_unbound(rival, address, why) for address in rival.gpus]
    for address in removal.unbind:
        driver = sysfs.link_name(root / "sys/bus/pci/devices" / address / "driver")
        if driver is None:
            continue
        reporter.phase("load", f"taking GPU {address} from {rival.module}")
        try:
            sysfs.write(root / "sys/bus/pci/drivers" / driver / "unbind", f"{address}\n")
        except OSError as error:
            problems.append(not_unbound(rival, address, error.strerror or str(error)))
        else:
            done.append(address)
    return done, problems


def _unload(rival: Rival, reporter: Reporter) -> list[Finding]:
    """Removes exactly this module; returns what the kernel refused.

    ``modprobe -r`` would also remove helpers that other modules use next.
    """
    reporter.phase("load", f"unloading {rival.module}")
    with shelter(f"{rival.module}, as it is unloaded") as whole:
        for left in reversed(range(_TRIES)):
            try:
                whole(["rmmod", rival.module], UNLOAD_SECONDS)
            except ModulusError as error:
                if not left:
                    return [stays_loaded(rival, error.message)]
                time.sleep(_PAUSE)
            else:
                break
    return []
