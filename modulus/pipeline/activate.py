"""``up``: the driver for the running kernel in its place, loaded and at work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modulus.core.dataclass import dataclass
from modulus.core.findings import Finding
from modulus.core.generation import module_path
from modulus.core.gpus import Census, no_gpu
from modulus.errors import IntegrityError
from modulus.host.hashing import Hashes
from modulus.host.install import Generation, activate, check_ours, write_selected
from modulus.host.kmod import Wanted
from modulus.host.linker import configure_linker, update_linker
from modulus.pipeline.check import failure, look
from modulus.pipeline.load import (
    check_options,
    chosen_modules,
    configure,
    free_initramfs,
    modules_of,
    start,
    to_load,
)
from modulus.pipeline.node import Node
from modulus.pipeline.warm import warm

if TYPE_CHECKING:
    # What a warm start does not need is imported where it is used.
    from modulus.pipeline.build import Built

READY, WAITING, INSTALLED, BUILT = "ready", "wait", "install", "build"


@dataclass(frozen=True)
class Activated:
    """What ``up`` came to.

    ``phase`` is READY, WAITING for a GPU, or INSTALLED or BUILT where no more was asked for.
    ``built`` is None after a warm start, ``generation`` where nothing was to be installed.
    ``changed`` is False where all files were in place.
    """

    phase: str
    built: Built | None
    generation: Generation | None
    changed: bool
    findings: tuple[Finding, ...] = ()

    @property
    def key(self) -> str | None:
        """The key of the build it is made of."""
        if self.generation:
            return self.generation.contents.identity.key
        return self.built.entry.key if self.built else None


def up(node: Node, *, load: bool = True, hashes: Hashes | None = None) -> Activated:
    """Makes the driver work on the running kernel, with as little as that takes.

    The active generation is started as it is where it was made for this very kernel. Else the
    driver is built if need be, and a generation of it installed first. Without ``load`` it is
    only put in place. ``hashes`` of the modules may be under way. Raises NoGpuError,
    VerifyError and what its steps raise.
    """
    name, hashes = node.instance.profile, hashes or Hashes()
    check_ours(node.site.root, name)
    # Not after a build that takes minutes.
    chosen_modules(node)
    check_options(node)
    with node.site.lock(f"up-{name}", f"the driver {name}"):
        if not load:
            return _install(node)
        census = node.census
        if census.missing:
            hashes.settle()
            return _without_gpu(node, census, hashes)
        if census.required:
            node.reporter.phase("plan", census.text)
        generation, wanted = _warm(node, hashes)
        hashes.settle()
        installed = None
        if generation is None:
            from modulus.pipeline.provide import provide

            provided = provide(node)
            generation, wanted = provided.generation, modules_of(node, provided.generation)
            # Before anything is swapped: libraries and modules must fit each other.
            to_load(node, generation, wanted)
            installed = Activated(INSTALLED, provided.built, generation, generation.changed)
        node.reporter.about(key=generation.contents.identity.key)
        changed = _put_in_place(node, generation)
        others = start(node, generation, wanted, census)
        node.reporter.phase("verify", f"to the level {node.settings.ready_when}")
        found = look(node, generation, wanted, others, node.settings.ready_when)
        # A level says what readiness takes, not what a person may hear of.
        findings = (*found, *(one for one in others if one not in found))
        _tell(node, findings)
        # The driver works: this is for the next boot, and may take minutes.
        later = free_initramfs(node, generation.contents.release)
        _tell(node, later)
        node.site.recall.keep()
        node.reporter.phase("ready", f"{node.instance} on {node.kernel.release}")
        return Activated(
            READY,
            installed.built if installed else None,
            generation,
            changed or (installed is not None and installed.changed),
            (*findings, *later),
        )


def _install(node: Node) -> Activated:
    from modulus.pipeline.provide import provide

    provided = provide(node)
    generation = provided.generation
    # Libraries must not change under a driver that is at work.
    to_load(node, generation, modules_of(node, generation))
    changed = _put_in_place(node, generation)
    return Activated(INSTALLED, provided.built, generation, changed or generation.changed)


def _without_gpu(node: Node, census: Census, hashes: Hashes) -> Activated:
    """What ``on_no_gpu`` has done on a node that has no GPU for the driver, or not yet."""
    if node.settings.on_no_gpu == "fail":
        raise no_gpu(census, node.instance.profile)
    node.reporter.phase("plan", f"{census.text}: on_no_gpu is {node.settings.on_no_gpu}")
    if node.settings.on_no_gpu == "wait":
        # Before a GPU comes, which udev would load a rival for.
        configure(node, node.kernel.release)
        generation, _ = _warm(node, hashes)
        if generation:
            return Activated(WAITING, None, generation, _put_in_place(node, generation))
        done = _install(node)
        return Activated(WAITING, done.built, done.generation, done.changed)
    from modulus.pipeline.build import build

    with node.site.using_cache():
        built = build(node, node.kernel.release)
    return Activated(BUILT, built, None, not built.hit)


def _warm(node: Node, hashes: Hashes) -> tuple[Generation | None, tuple[Wanted, ...]]:
    """The active generation and its modules, if it is for this kernel and they are sound."""
    generation = warm(node)
    if generation is None:
        return None, ()
    try:
        _check_present(generation)
        wanted = modules_of(node, generation)
        # Without a GPU it does not matter yet what is loaded.
        needed = wanted if node.census.missing else to_load(node, generation, wanted)
        _check_hashes(generation, needed, hashes)
    except IntegrityError as error:
        node.reporter.warn(f"{generation.name} is damaged: {error.message}")
        return None, ()
    node.reporter.phase("plan", f"warm: {generation.name} is for this kernel")
    return generation, wanted


def _check_present(generation: Generation) -> None:
    """Raises IntegrityError where a file is gone; to hash all of them would take seconds."""
    tree = generation.contents.tree
    paths = [file.path for file in tree.files] + [link.path for link in tree.links]
    for path in paths:
        if not os.path.lexists(generation.path / path):
            raise IntegrityError(f"{path} is gone", "run modulus up again")


def _check_hashes(generation: Generation, wanted: tuple[Wanted, ...], hashes: Hashes) -> None:
    """Raises IntegrityError unless the modules to load are those that were installed."""
    recorded = {file.path: file.sha256 for file in generation.contents.tree.files}
    for module in wanted:
        path = module_path(generation.contents.release, f"{module.name}.ko")
        if hashes.sha256(generation.path / path) != recorded.get(path):
            raise IntegrityError(f"{path} is not what was installed", "run modulus up again")


def _put_in_place(node: Node, generation: Generation) -> bool:
    """Makes ``generation`` the driver of this node; False if it was already."""
    root, name = node.site.root, node.instance.profile
    changed = configure_linker(root, name, node.site.recall)
    changed |= activate(root, name, generation)
    changed |= update_linker(root, name, generation, node.site.recall, node.reporter)
    changed |= write_selected(root, name, node.instance)
    return changed


def _tell(node: Node, findings: tuple[Finding, ...]) -> None:
    """Says what is wrong; raises VerifyError where the driver is not ready with it."""
    error = failure(findings, node.settings.ready_when)
    for finding in findings:
        text = f"{finding.message}: {finding.cause}; {finding.fix}"
        # With one GPU of several dead the driver is ready, and a person must know.
        if finding.severity == "error" or finding.id == "gpu-dead":
            node.reporter.error(f"verify: {text}")
        elif finding.severity == "warning":
            node.reporter.warn(text)
    if error:
        raise error
