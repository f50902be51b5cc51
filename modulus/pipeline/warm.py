"""Whether the active generation is what an instance needs on the running kernel."""

from __future__ import annotations

from modulus.host.install import Generation, active_generation
from modulus.pipeline.node import Node


def warm(node: Node) -> Generation | None:
    """The active generation where it is the one that is wanted, by its manifest alone.

    No store, headers, package or network are looked at, and no file is hashed.
    """
    active = active_generation(node.site.root, node.instance.profile)
    if active is None:
        return None
    made_for = active.contents.identity
    wanted = (node.instance, node.kernel, components(node))
    if (made_for.instance, made_for.kernel, made_for.components) != wanted:
        return None
    return active if node.settings.flavour in ("auto", made_for.flavour) else None


def components(node: Node) -> tuple[str, ...]:
    """The parts of the package's userspace that are wanted; none where it has none."""
    return node.settings.components if node.profile.installer else ()
