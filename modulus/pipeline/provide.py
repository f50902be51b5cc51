"""The generation an instance needs on the running kernel: the active one, or one made now."""

from __future__ import annotations

from modulus.core.dataclass import dataclass
from modulus.core.generation import Identity
from modulus.core.userspace import Selection, userspace_id
from modulus.errors import IntegrityError
from modulus.host.install import (
    Generation,
    active_generation,
    install_generation,
    verify_generation,
)
from modulus.host.userspace import Userspace, find_userspace, provide_userspace
from modulus.pipeline import source
from modulus.pipeline.build import Built, build
from modulus.pipeline.node import Node
from modulus.pipeline.warm import components


@dataclass(frozen=True)
class Provided:
    """A whole generation in its folder; ``built`` is what it was made of."""

    generation: Generation
    built: Built


def provide(node: Node) -> Provided:
    """Builds what is missing and puts the generation in its folder; activates nothing."""
    with node.site.using_cache():
        built = build(node, node.kernel.release)
        return Provided(_generation(node, built), built)


def _generation(node: Node, built: Built) -> Generation:
    """The active generation where it is right and whole, else one that is made now."""
    selection = _selection(node)
    record = source.recorded(node)
    userspace = (
        userspace_id(record.sha256, node.instance.version, selection)
        if record and selection
        else None
    )
    identity = Identity(
        node.instance, built.flavour, node.kernel, built.entry.key, components(node)
    )
    active = active_generation(node.site.root, node.instance.profile)
    if active and (active.contents.identity, active.contents.userspace) == (
        identity,
        userspace,
    ):
        problem = verify_generation(active, node.reporter)
        if problem is None:
            return active
        node.reporter.warn(f"{active.name} is damaged: {problem}")
    return install_generation(
        node.site.root,
        identity,
        built.entry.modules,
        _userspace(node, selection, userspace),
        node.reporter,
    )


def _selection(node: Node) -> Selection | None:
    """What of the package's userspace is wanted; None for a driver without any."""
    installer = node.profile.installer
    if installer is None:
        return None
    return Selection(
        components=node.settings.components,
        rules=tuple(
            rule
            for name in node.settings.components
            for rule in node.profile.components.get(name, ())
        ),
        folders=installer.folders,
    )


def _userspace(
    node: Node, selection: Selection | None, identity: str | None
) -> Userspace | None:
    if selection is None:
        return None
    if identity:
        found = find_userspace(node.site.cache, identity, node.reporter)
        if found:
            return found
    package = source.provide(node)
    manifest = package.manifest
    if manifest is None:
        raise IntegrityError(
            f"the package of {node.instance} does not list what it installs",
            "check what the mirror serves; it is not a package of this driver",
        )
    with source.discarding(node, package):
        return provide_userspace(
            node.site.cache, package.archive, manifest, selection, package.sha256, node.reporter
        )
