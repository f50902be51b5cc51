"""Puts one generation in its place, loads it and verifies it, while no other is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from modulus.core.findings import Finding, weighed
from modulus.core.gpu.census import Census
from modulus.errors import ModulusError
from modulus.host.generation.install import Generation, activate, is_active, write_selected
from modulus.host.generation.last_good import record_good
from modulus.host.generation.linker import configure_linker, update_linker
from modulus.host.modules.load import WantedModule, strangers
from modulus.host.report.reporter import Reporter
from modulus.host.retention import mark_used
from modulus.pipeline.activate.load import modules_of, start
from modulus.pipeline.activate.verify import failure, look
from modulus.pipeline.node import Node


@dataclass(frozen=True)
class Target:
    """A generation to bring up for the instance of ``node``; ``wanted`` are its modules to
    load, in order."""

    node: Node
    generation: Generation
    wanted: tuple[WantedModule, ...]

    @property
    def is_active(self) -> bool:
        """Whether it is the driver of this node already."""
        node = self.node
        return is_active(node.paths, self.generation.name)

    @property
    def another_is_loaded(self) -> bool:
        """Whether another generation, or somebody else's driver, is loaded in its place."""
        return bool(strangers(self.node.site.root, self.wanted))

    def told_from(self, other: Generation) -> str:
        """What to call it beside ``other``: the instance, where that tells them apart."""
        mine = self.generation.contents.identity.instance
        same = other.contents.identity.instance == mine
        return self.generation.name if same else str(mine)


@dataclass(frozen=True)
class Begun:
    """The result of ``begin``; ``changed`` is False where all files were in place."""

    changed: bool
    findings: tuple[Finding, ...]


def make_target(node: Node, generation: Generation) -> Target:
    """``generation`` with its modules to load; IntegrityError for a damaged module."""
    return Target(node, generation, modules_of(node, generation))


def begin(target: Target, reporter: Reporter, census: Census, *, select: bool = True) -> Begun:
    """Puts ``target`` in its place, loads the modules it lacks, and verifies it.

    A verified generation is remembered as good. ``select``: its instance becomes the selected
    one. Raises VerifyError, and what loading raises.
    """
    node, generation = target.node, target.generation
    changed = put_in_place(target, reporter, select=select)
    others = start(node, reporter, generation, target.wanted, census)
    ready_when = node.settings.ready_when
    reporter.phase("verify", f"to the level {ready_when}")
    found = look(node, generation, target.wanted, others, ready_when)
    # A level says what readiness takes, not what a person may hear of.
    findings = (*found, *weighed((one for one in others if one not in found), ready_when))
    tell(node, reporter, findings)
    try:
        record_good(node.paths, generation)
    except (ModulusError, OSError) as error:
        reporter.warn(f"{generation.name} is not remembered as good: {error}")
    return Begun(changed, findings)


def put_in_place(target: Target, reporter: Reporter, *, select: bool = True) -> bool:
    """Makes ``target`` the driver of this node; False if it was already."""
    node, generation = target.node, target.generation
    mark_used(node.paths, generation.name)
    changed = configure_linker(node.paths)
    changed |= activate(node.paths, generation)
    changed |= update_linker(node.paths, generation, reporter)
    if select:
        changed |= write_selected(node.paths, node.instance)
    return changed


def tell(node: Node, reporter: Reporter, findings: tuple[Finding, ...]) -> None:
    """Says what is wrong; raises VerifyError where the driver is not ready with it."""
    error = failure(findings, node.settings.ready_when)
    for finding in findings:
        text = f"{finding.message}: {finding.cause}; {finding.fix}"
        # With one GPU of several dead the driver is ready, but a person must know.
        if finding.severity == "error" or finding.id == "gpu-dead":
            reporter.error(f"verify: {text}")
        elif finding.severity == "warning":
            reporter.warn(text)
    if error:
        raise error
