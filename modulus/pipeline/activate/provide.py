"""The generation an instance needs on the running kernel: the active one, or one made now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modulus.core.generation.generation import Identity, module_path
from modulus.core.package.userspace import Selection, userspace_id
from modulus.errors import IntegrityError
from modulus.host.generation.install import (
    Generation,
    active_generation,
    install_generation,
    verify_generation,
)
from modulus.host.generation.userspace import Userspace, find_userspace, provide_userspace
from modulus.host.process.background import Aside, SharedReporter
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.warm import components
from modulus.pipeline.build import source
from modulus.pipeline.build.build import carry_out
from modulus.pipeline.build.built import Built
from modulus.pipeline.build.prepare import prepare
from modulus.pipeline.node import Node


@dataclass(frozen=True)
class Provided:
    """A whole generation in its folder; ``built`` is what it was made of."""

    generation: Generation
    built: Built


def provide(node: Node, reporter: Reporter) -> Provided:
    """Builds what is missing and puts the generation in its folder; activates nothing.

    The userspace is laid out while the compiler runs, which leaves the disk idle.
    """
    shared = SharedReporter(reporter)
    node.site.tell_store_problems(reporter)
    with node.site.using_cache(reporter):
        job = prepare(node, reporter, node.kernel.release)
        with Aside(lambda aside: _userspace(node, aside, job.package), shared) as userspace:
            built = carry_out(node, shared, job, meanwhile=userspace.start)
            return Provided(_generation(node, shared, built, userspace.result), built)


def _generation(
    node: Node, reporter: Reporter, built: Built, userspace: Callable[[], Userspace | None]
) -> Generation:
    """The active generation where it is right and whole, else one that is made now."""
    identity = Identity(
        node.instance,
        built.flavour,
        node.kernel,
        built.entry.key,
        components(node),
        built.recipe,
    )
    active = active_generation(node.paths)
    if (
        active
        and (active.contents.identity, active.contents.userspace)
        == (
            identity,
            _userspace_id(node),
        )
        and _has_modules(active, built)
    ):
        problem = verify_generation(active, reporter)
        if problem is None:
            return active
        reporter.warn(f"{active.name} is damaged: {problem}")
    return install_generation(
        node.site.root,
        identity,
        built.entry.modules,
        userspace(),
        reporter,
    )


def _has_modules(generation: Generation, built: Built) -> bool:
    """Whether ``generation``, which has the key of ``built``, has its modules, and not those of
    a build that was disproved since."""
    there = {file.path: file.sha256 for file in generation.contents.tree.files}
    return all(
        there.get(module_path(built.release, file)) == module.sha256
        for file, module in built.entry.modules.items()
    )


def _selection(node: Node) -> Selection | None:
    """The wanted parts of the package's userspace; None for a driver without any."""
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


def _userspace_id(node: Node) -> str | None:
    """The id of the wanted userspace; None where there is none, or it is not known yet."""
    selection, record = _selection(node), source.recorded(node)
    if record and selection:
        return userspace_id(record.sha256, node.instance.version, selection)
    return None


def _userspace(
    node: Node, aside: Aside[Userspace | None], package: source.DriverPackage | None
) -> Userspace | None:
    """The userspace that is wanted, from the cache or out of the package."""
    reporter = aside.reporter
    selection, identity = _selection(node), _userspace_id(node)
    if selection is None:
        return None
    if identity:
        found = find_userspace(node.site.cache, identity, reporter)
        if found:
            return found
    package = package or source.provide(node, reporter, sleep=aside.sleep)
    manifest = package.manifest
    if manifest is None:
        raise IntegrityError(
            f"the package of {node.instance} does not list what it installs",
            "check what the mirror serves; it is not a package of this driver",
        )
    with source.discarding(node, package):
        return provide_userspace(
            node.site.cache, package.archive, manifest, selection, package.sha256, reporter
        )
