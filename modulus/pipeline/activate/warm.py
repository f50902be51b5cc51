"""Whether a generation is in place that is what an instance needs on the running kernel."""

from __future__ import annotations

import glob

from modulus.core.generation.generation import MANIFEST
from modulus.errors import ModulusError
from modulus.host.build.proofs import why_condemned
from modulus.host.generation.enabled import selected_instance
from modulus.host.generation.install import Generation, active_generation, find_generation
from modulus.host.modules.load import loaded
from modulus.pipeline.node import Node


def warm(node: Node) -> Generation | None:
    """The active generation where it is the one that is wanted, by its manifest alone.

    Before the switch to an instance that is selected already, such as at the boot after a
    refused switch, that instance's newest generation counts too. Store, headers, package and
    network are not looked at, and no file is hashed; but the store is asked for another build
    where the generation is condemned.
    """
    found = _find(node)
    return None if found and _is_replaced(node, found) else found


def components(node: Node) -> tuple[str, ...]:
    """The parts of the package's userspace that are wanted; none where it has none."""
    return node.settings.components if node.profile.installer else ()


def has_build(node: Node) -> bool:
    """Whether a build for the running kernel is stored that may take a generation's place."""
    from modulus.pipeline.build.plan import gather, is_stored

    try:
        return is_stored(node, gather(node, node.kernel.release))
    except ModulusError:
        return False


def _find(node: Node) -> Generation | None:
    active = active_generation(node.paths)
    if active and active.contents.identity.instance == node.instance:
        return active if _is_wanted(node, active) else None
    if selected_instance(node.paths) != node.instance:
        return None
    begins = glob.escape(f"{node.instance.version}-{node.kernel.release}-")
    there = node.paths.generations.glob(f"{begins}*/{MANIFEST}")
    for path in sorted(there, key=lambda path: path.stat().st_mtime, reverse=True):
        found = find_generation(node.paths, path.parent.name)
        if found and _is_wanted(node, found):
            return found
    return None


def _is_replaced(node: Node, generation: Generation) -> bool:
    """Whether ``generation`` is condemned and there is a build to take its place; never while
    it is loaded: it runs until the reboot, and is to be reported."""
    if why_condemned(node.site.root, generation) is None:
        return False
    return not loaded(node.site.root, node.profile.build) and has_build(node)


def _is_wanted(node: Node, generation: Generation) -> bool:
    made_for = generation.contents.identity
    wanted = (node.instance, node.kernel, components(node))
    if (made_for.instance, made_for.kernel, made_for.components) != wanted:
        return False
    return node.settings.flavour in ("auto", made_for.flavour)
