"""Whether the active driver is right."""

from __future__ import annotations

from collections.abc import Sequence

from modulus.core.findings import LEVELS, Finding, blocking
from modulus.core.nodechanges import node_findings, plan_nodes
from modulus.errors import IntegrityError, ModulusError, UsageError, VerifyError
from modulus.host.enabled import active_generations
from modulus.host.foreign import find_foreign, foreign_findings
from modulus.host.gpus import take_census
from modulus.host.install import Generation, active_generation
from modulus.host.kmod import Wanted, loaded
from modulus.host.nodefacts import read_facts
from modulus.host.verify import verify
from modulus.pipeline.load import modules_of
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site


def check(node: Node) -> tuple[Finding, ...]:
    """All that is wrong with the active driver of this node's instance; changes nothing.

    Raises UsageError where the instance is not the active one.
    """
    generation = active_generation(node.site.root, node.instance.profile)
    if generation is None or generation.contents.identity.instance != node.instance:
        active = generation.contents.identity.instance if generation else "nothing"
        raise UsageError(
            f"{node.instance} is not active here: {active} is",
            f"run modulus up {node.instance}, or verify what is active",
        )
    root, profile = node.site.root, node.profile
    foreign = find_foreign(root, profile.name, generation.contents.release, profile.build)
    nodes = plan_nodes(profile.nodes, read_facts(root, profile.nodes)).changes
    others = (*foreign_findings(profile.name, foreign), *node_findings(nodes))
    try:
        wanted = modules_of(node, generation)
    except IntegrityError as error:
        wanted = ()
        others = (*others, _damaged(node, error))
    return look(node, generation, wanted, others, LEVELS[-1])


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
    wanted: Sequence[Wanted],
    others: Sequence[Finding],
    level: str,
) -> tuple[Finding, ...]:
    """What is wrong at ``level`` and those before it, ``others`` being known already."""
    root = node.site.root
    return verify(
        root,
        node.profile,
        node.settings,
        generation,
        wanted=wanted,
        loaded=loaded(root, node.profile.build),
        census=take_census(root, node.profile),
        others=others,
        level=level,
    )


def active_nodes(site: Site) -> tuple[Node, ...]:
    """The drivers that are active, each as the instance that is."""
    found = active_generations(site.root)
    return tuple(Node(site, generation.contents.identity.instance) for generation in found)


def failure(findings: Sequence[Finding], ready_when: str) -> ModulusError | None:
    """What keeps a driver from being ready, the first of it with what to do."""
    wrong = blocking(findings, ready_when)
    if not wrong:
        return None
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return VerifyError(f"{wrong[0].message}: {wrong[0].cause}{more}", wrong[0].fix)
