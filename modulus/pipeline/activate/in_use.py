"""Whether the loaded driver can go: its modules and device nodes, and who uses them."""

from __future__ import annotations

from dataclasses import dataclass

from modulus.core.devices.wanted import NodeFacts, wanted_nodes
from modulus.core.modules.in_use import NodeSet, Users, unload_order
from modulus.host.devices.facts import read_facts
from modulus.host.gpu.display import display_nodes
from modulus.host.modules.in_use import users
from modulus.host.modules.load import settled
from modulus.host.report.reporter import Reporter
from modulus.pipeline.node import Node


@dataclass(frozen=True)
class Use:
    """The loaded modules in the order of unloading, the device nodes, and the users."""

    order: tuple[str, ...]
    facts: NodeFacts
    users: Users


def look_in_use(node: Node, reporter: Reporter) -> Use:
    """Who uses the driver of ``node``, whichever generation of it is loaded."""
    root, profile = node.site.root, node.profile
    there = settled(root, (*profile.unload, *profile.build), reporter)
    order = unload_order(profile, there)
    facts = read_facts(root, profile.nodes)
    return Use(order, facts, users(root, profile, order, _nodes(node, facts)))


def _nodes(node: Node, facts: NodeFacts) -> NodeSet:
    """The driver's device nodes: those it should have, those that are there, its displays."""
    wanted = wanted_nodes(node.profile.nodes, facts)
    own = NodeSet(
        numbers=frozenset((device.major, device.minor) for device in wanted),
        paths=frozenset((*facts.seen, *(device.path for device in wanted))),
    )
    return own | display_nodes(node.site.root, [gpu.address for gpu in node.census.usable])
