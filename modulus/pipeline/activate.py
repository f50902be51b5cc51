"""``up``: the driver for the running kernel in its place under /opt/drivers."""

from __future__ import annotations

from dataclasses import dataclass

from modulus.host.install import Generation, activate, check_ours, write_selected
from modulus.host.linker import configure_linker, update_linker
from modulus.pipeline.build import Built
from modulus.pipeline.node import Node
from modulus.pipeline.provide import provide


@dataclass(frozen=True)
class Activated:
    """What ``up`` left in place; ``changed`` is False where all of it was there."""

    built: Built
    generation: Generation
    changed: bool


def up(node: Node) -> Activated:
    """Builds the driver for the running kernel if need be and makes it the active one."""
    name = node.instance.profile
    check_ours(node.site.root, name)
    with node.site.lock(f"up-{name}", f"the driver {name}"):
        provided = provide(node)
        generation = provided.generation
        changed = configure_linker(node.site.root, name)
        changed |= activate(node.site.root, name, generation)
        changed |= update_linker(node.site.root, name, generation, node.reporter)
        changed |= write_selected(node.site.root, name, node.instance)
    return Activated(provided.built, generation, changed or generation.changed)
