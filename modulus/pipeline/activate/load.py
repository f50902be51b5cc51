"""From a generation in its place to a driver at work: modules, firmware, device nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modulus.core.findings import Finding
from modulus.core.generation.generation import module_path
from modulus.core.gpu.census import Census
from modulus.core.kernel.moddep import module_name
from modulus.core.kernel.modprobe import choose_modules, merge_options
from modulus.errors import BusyError
from modulus.host.devices.apply import provide_nodes
from modulus.host.generation.install import Generation
from modulus.host.generation.modprobe_conf import configure_modprobe
from modulus.host.gpu.census import bind_free, fix_numa, take_census
from modulus.host.modules.firmware import provide_firmware
from modulus.host.modules.foreign import (
    ModuleOrigin,
    find_foreign,
    foreign_findings,
    foreign_names,
)
from modulus.host.modules.initramfs import check_initramfs
from modulus.host.modules.load import WantedModule, check_loaded, load, loaded, read_wanted
from modulus.host.modules.module_root import ModuleRoot, compose
from modulus.host.modules.rivals import remove_rivals
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.record_state import record_state
from modulus.pipeline.node import Node

FORCE = "rivals_unbind"
"""The setting that takes a rival off although it is in use."""


def modules_of(node: Node, generation: Generation) -> tuple[WantedModule, ...]:
    """The modules of ``generation`` to load, in order.

    These are the chosen ones, each after the driver's own modules that it needs.
    """
    known = {module_name(name): name for name in node.profile.build}
    found: dict[str, WantedModule] = {}

    def add(name: str, asking: frozenset[str]) -> None:
        if name in found or name in asking:
            return
        module = read_wanted(name, module_file(generation, name))
        for need in map(module_name, module.depends):
            if need in known:
                add(known[need], asking | {name})
        found[name] = module

    for name in chosen_modules(node):
        add(name, frozenset())
    return tuple(found.values())


def chosen_modules(node: Node) -> tuple[str, ...]:
    """The modules that settings and profile name; ConfigError for one the driver has not."""
    return choose_modules(node.profile.load, node.profile.build, node.settings.modules)


def check_options(node: Node, reporter: Reporter) -> None:
    """Warns of options for modules that the driver does not have: nothing uses them."""
    known = set(map(module_name, (*node.profile.build, *node.profile.preload)))
    unknown = [name for name in node.settings.module_options if module_name(name) not in known]
    if unknown:
        reporter.warn(
            f"module_options: the driver has no module {', '.join(unknown)}; its are "
            + ", ".join(node.profile.build)
        )


def module_file(generation: Generation, name: str) -> Path:
    """Where ``generation`` has the module ``name``."""
    return generation.path / module_path(generation.contents.release, f"{name}.ko")


def to_load(
    node: Node, generation: Generation, wanted: Sequence[WantedModule]
) -> tuple[WantedModule, ...]:
    """Those of ``wanted`` that are not loaded; BusyError where another version is."""
    return check_loaded(node.paths, generation.contents.release, wanted)


def configure(node: Node, release: str) -> tuple[ModuleOrigin, ...]:
    """Keeps rivals and others' modules from being loaded by alias; returns the others'."""
    profile = node.profile
    foreign = find_foreign(node.paths, release, profile.build)
    configure_modprobe(
        node.paths,
        merge_options(profile.options, node.settings.module_options),
        (*profile.blacklist, *profile.build, *foreign_names(foreign)),
    )
    return foreign


def start(
    node: Node,
    reporter: Reporter,
    generation: Generation,
    wanted: Sequence[WantedModule],
    census: Census,
) -> tuple[Finding, ...]:
    """Loads the missing modules of ``wanted`` and makes the device nodes; returns findings.

    All of it may be there already. Raises RefusedError, BusyError, NoGpuError or
    UnsupportedError where the kernel does not take the driver.
    """
    root, name, profile = node.site.root, node.instance.profile, node.profile
    release = generation.contents.release
    foreign = configure(node, release)
    census, unbound, rivals = _free_gpus(node, reporter, census)
    try:
        _check_free(census, profile.blacklist, rivals)
    except BusyError:
        # Or the reboot that the error asks for would not help.
        free_initramfs(node, reporter, release)
        raise
    if node.settings.numa_fix:
        fix_numa(root, census, reporter)
    said: tuple[Finding, ...] = ()
    if to_load(node, generation, wanted):
        provide_firmware(node.paths, generation.path / "firmware", reporter)
        modules = compose_modules(node, generation, wanted)
        said = load(node.paths, modules, wanted, profile.load_causes, reporter)
    bind_free(root, unbound, [module.name for module in wanted])
    nodes = provide_nodes(root, profile.nodes, reporter)
    record_state(node, reporter, generation, wanted, nodes)
    return (*foreign_findings(name, foreign), *rivals, *said, *nodes.findings)


def _free_gpus(
    node: Node, reporter: Reporter, census: Census
) -> tuple[Census, tuple[str, ...], tuple[Finding, ...]]:
    """Takes rivals off the GPUs; returns the census after that, the addresses that were
    unbound, and findings."""
    root, rivals = node.site.root, node.profile.blacklist
    # None is loaded after a boot with our file in modprobe.d.
    if not loaded(root, rivals):
        return census, (), ()
    found = remove_rivals(
        root,
        rivals,
        census,
        reporter,
        force=node.settings.rivals_unbind,
        force_setting=FORCE,
    )
    census = take_census(root, node.profile, node.site.host.pci)
    return census, found.unbound, found.findings


def compose_modules(
    node: Node, generation: Generation, wanted: Sequence[WantedModule]
) -> ModuleRoot:
    """The module root that ``wanted`` are loaded from; RefusedError where this node lacks what
    they need."""
    return compose(
        node.paths,
        generation.contents.release,
        {each: module_file(generation, each) for each in node.profile.build},
        [module.name for module in wanted],
        node.profile.preload,
    )


def free_initramfs(node: Node, reporter: Reporter, release: str) -> tuple[Finding, ...]:
    """Keeps rivals out of the next boot; returns findings. May take minutes."""
    return check_initramfs(
        node.paths,
        release,
        node.profile.blacklist,
        reporter,
        rebuild=node.settings.initramfs == "auto",
    )


def _check_free(census: Census, rivals: Sequence[str], findings: Sequence[Finding]) -> None:
    """Raises BusyError where other drivers keep all GPUs: this one would only find none."""
    kept = [finding for finding in findings if finding.severity == "error"]
    if kept and census.usable == census.held_by(rivals):
        raise BusyError(f"{kept[0].message}: {kept[0].cause}", kept[0].fix)
