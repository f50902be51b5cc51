"""``up``: the driver for the running kernel in its place under /opt/drivers."""

from __future__ import annotations

from dataclasses import dataclass

from modulus.core.userspace import Selection, userspace_id
from modulus.errors import IntegrityError
from modulus.host.install import (
    Generation,
    activate,
    active_generation,
    check_ours,
    install_generation,
    verify_generation,
    write_selected,
)
from modulus.host.linker import configure_linker, update_linker
from modulus.host.userspace import Userspace, find_userspace, provide_userspace
from modulus.pipeline import source
from modulus.pipeline.build import Built, build
from modulus.pipeline.node import Node


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
        with node.site.using_cache():
            built = build(node, node.running_kernel)
            generation = _generation(node, built)
        changed = configure_linker(node.site.root, name)
        changed |= activate(node.site.root, name, generation)
        changed |= update_linker(node.site.root, name, generation, node.reporter)
        changed |= write_selected(node.site.root, name, node.instance)
    return Activated(built, generation, changed or generation.changed)


def _generation(node: Node, built: Built) -> Generation:
    """The active generation where it is right and whole, else one that is made now."""
    selection = _selection(node)
    record = source.recorded(node)
    identity = (
        userspace_id(record.sha256, node.instance.version, selection)
        if record and selection
        else None
    )
    active = active_generation(node.site.root, node.instance.profile)
    if active and _is_wanted(active, node, built, identity):
        problem = verify_generation(active, node.reporter)
        if problem is None:
            return active
        node.reporter.warn(f"{active.name} is damaged: {problem}")
    return install_generation(
        node.site.root,
        node.instance,
        built.flavour,
        built.release,
        built.entry.key,
        built.entry.modules,
        _userspace(node, selection, identity),
        node.reporter,
    )


def _is_wanted(active: Generation, node: Node, built: Built, userspace: str | None) -> bool:
    held = active.contents
    return (held.instance, held.flavour, held.release, held.key, held.userspace) == (
        str(node.instance),
        built.flavour,
        built.release,
        built.entry.key,
        userspace,
    )


def _selection(node: Node) -> Selection | None:
    """What of the package's userspace is wanted; None for a driver without any."""
    installer = node.profile.installer
    if installer is None:
        return None
    components = node.settings.components
    return Selection(
        components=components,
        rules=tuple(
            rule for name in components for rule in node.profile.components.get(name, ())
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
    manifest = source.read_manifest(node, package)
    if manifest is None:
        raise IntegrityError(
            f"the package of {node.instance} does not list what it installs",
            "check what the mirror serves; it is not a package of this driver",
        )
    with source.discarding(node, package):
        return provide_userspace(
            node.site.cache, package.archive, manifest, selection, package.sha256, node.reporter
        )
