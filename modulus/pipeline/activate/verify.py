"""Whether the active driver is right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modulus.core.build.proof import Proof
from modulus.core.devices.changes import node_findings, plan_nodes
from modulus.core.findings import LEVELS, Finding, blocking
from modulus.core.generation.generation import MANIFEST
from modulus.core.health.checks.build import check_build, check_proof
from modulus.core.health.checks.files import check_files
from modulus.errors import IntegrityError, ModulusError, UsageError, VerifyError
from modulus.host.build.proofs import read_proof, why_condemned
from modulus.host.devices.facts import read_facts
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import DRIVERS, below
from modulus.host.files.tree import problems
from modulus.host.generation.enabled import selected_instance, selected_instances
from modulus.host.generation.install import Generation, active_generation
from modulus.host.gpu.census import take_census
from modulus.host.health.verify import verify
from modulus.host.modules.foreign import find_foreign, foreign_findings
from modulus.host.modules.load import WantedModule, loaded
from modulus.pipeline.activate.load import modules_of
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site


@dataclass(frozen=True)
class Checked:
    """What is wrong with a driver; ``error`` is the part that keeps it from being ready.

    ``name`` is the instance, or only the driver where nothing tells which one it is.
    """

    name: str
    findings: tuple[Finding, ...]
    error: ModulusError | None


def check_all(site: Site, *, deep: bool = False) -> tuple[Checked, ...]:
    """All that is wrong with the drivers that are active, or should be; changes nothing.

    Files are hashed only if ``deep``.
    """
    links = below(site.root, DRIVERS).glob("[!.]*")
    selected = (instance.profile for instance in selected_instances(site.root))
    names = sorted({*selected, *(link.name for link in links)})
    found = (_checked(site, name, deep) for name in names)
    return tuple(one for one in found if one)


def _checked(site: Site, name: str, deep: bool) -> Checked | None:
    driver = DriverPaths(site.root, name)
    generation = active_generation(driver)
    if generation:
        return check(Node(site, generation.contents.identity.instance), deep=deep)
    finding = missing_generation(driver)
    if finding is None:
        return None
    instance = selected_instance(driver)
    return Checked(str(instance or name), (finding,), failure((finding,), finding.level))


def check(node: Node, *, deep: bool = False) -> Checked:
    """All that is wrong with the active driver of this node's instance; changes nothing.

    Files are hashed only if ``deep``. Raises UsageError where the instance is not the active
    one.
    """
    findings = _check(node, deep)
    error = failure(findings, node.settings.ready_when)
    return Checked(str(node.instance), findings, error)


def missing_generation(driver: DriverPaths) -> Finding | None:
    """The finding where ``driver`` is there or selected, but not its generation."""
    link, name = driver.link, driver.name
    instance = selected_instance(driver)
    ours = link.is_symlink() and os.readlink(link).startswith(f".{name}/")
    made = os.path.lexists(link) and driver.generations.is_dir()
    if not (instance or ours or made) or active_generation(driver):
        return None
    path, start = driver.inside.link, f"modulus up {instance or f'{name}-VERSION'}"
    if not os.path.lexists(link):
        cause = f"{path} is gone"
    elif not ours:
        cause = f"{path} is not the symlink that Modulus makes"
        start = f"mv {path} {path}.old && {start}"
    elif not link.exists():
        cause = f"{path} leads to {os.readlink(link)}, which is not there"
    else:
        cause = f"{path}/{MANIFEST} cannot be read"
    return Finding(
        "generation-missing",
        "loaded",
        "error",
        f"the driver {instance or name} is not whole",
        cause,
        start,
    )


def _check(node: Node, deep: bool) -> tuple[Finding, ...]:
    generation = active_generation(node.paths)
    if generation is None:
        finding = missing_generation(node.paths)
        chosen = selected_instance(node.paths)
        if finding and chosen in (None, node.instance):
            return (finding,)
    if generation is None or generation.contents.identity.instance != node.instance:
        active = generation.contents.identity.instance if generation else "nothing"
        raise UsageError(
            f"{node.instance} is not active here: {active} is",
            f"run modulus up {node.instance}, or verify what is active",
        )
    root, profile = node.site.root, node.profile
    foreign = find_foreign(node.paths, generation.contents.release, profile.build)
    nodes = plan_nodes(profile.nodes, read_facts(root, profile.nodes)).changes
    others = (
        *foreign_findings(profile.name, foreign),
        *node_findings(nodes),
        *check_files(
            str(node.instance),
            node.paths.inside.link,
            [*problems(generation.path, generation.contents.tree, deep=deep)],
        ),
        *check_proof(node.instance, proof_of(node.site, generation)),
    )
    try:
        wanted = modules_of(node, generation)
    except IntegrityError as error:
        wanted = ()
        others = (*others, _damaged(node, error))
    return look(node, generation, wanted, others, LEVELS[-1])


def proof_of(site: Site, generation: Generation) -> Proof | None:
    """What was proved of the build that ``generation`` is made of."""
    of = generation.contents.identity
    entry = site.store.find(of.key, of.kernel.release)
    return read_proof(site.cache, entry) if entry else None


def _damaged(node: Node, error: IntegrityError) -> Finding:
    return Finding(
        "module-file",
        "loaded",
        "error",
        error.message,
        "a file of the generation was changed or removed, and is missing at the next boot",
        f"modulus up {node.instance}",
    )


def look(
    node: Node,
    generation: Generation,
    wanted: Sequence[WantedModule],
    others: Sequence[Finding],
    level: str,
) -> tuple[Finding, ...]:
    """The findings at ``level`` and the levels before it; ``others`` are known already."""
    root = node.site.root
    return verify(
        root,
        node.profile,
        node.settings,
        generation,
        wanted=wanted,
        loaded=loaded(root, node.profile.build),
        census=take_census(root, node.profile, node.site.host.pci),
        others=(*others, *check_build(node.instance, why_condemned(root, generation))),
        level=level,
        # Under another root the libraries would ask the running system's driver.
        ask_libraries=root == Path("/"),
    )


def failure(findings: Sequence[Finding], ready_when: str) -> ModulusError | None:
    """What keeps a driver from being ready: the first finding, with what to do."""
    wrong = blocking(findings, ready_when)
    if not wrong:
        return None
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return VerifyError(f"{wrong[0].message}: {wrong[0].cause}{more}", wrong[0].fix)
