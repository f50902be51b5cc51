"""``up``: the driver for the running kernel in its place, loaded and at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modulus.core.findings import Finding
from modulus.core.gpu.census import Census, no_gpu
from modulus.errors import IntegrityError, ModulusError
from modulus.host.generation.install import Generation, check_ours, verify_generation
from modulus.host.modules.load import not_loaded
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.begin import (
    Begun,
    Target,
    begin,
    make_target,
    put_in_place,
    tell,
)
from modulus.pipeline.activate.collect import collect_old
from modulus.pipeline.activate.load import (
    check_options,
    chosen_modules,
    configure,
    free_initramfs,
    to_load,
)
from modulus.pipeline.activate.startable import check_startable
from modulus.pipeline.activate.warm import warm
from modulus.pipeline.node import Node

if TYPE_CHECKING:
    # What a warm start does not need is imported where it is used.
    from modulus.pipeline.build.built import Built

READY, WAITING, INSTALLED, BUILT = "ready", "wait", "install", "build"


@dataclass(frozen=True)
class Activated:
    """The result of ``up``.

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


def up(node: Node, reporter: Reporter, *, load: bool = True) -> Activated:
    """Makes the driver work on the running kernel, with as little as that takes.

    The active generation is started as it is where it was made for this very kernel. Else the
    driver is built if need be, and a generation of it installed first. Without ``load`` it is
    only put in place. Raises NoGpuError, VerifyError, FallbackError and what its steps raise.
    """
    name = node.instance.profile
    check_ours(node.paths)
    # Now, and not after a build that takes minutes.
    chosen_modules(node)
    check_options(node, reporter)
    with node.site.lock(f"up-{name}", f"the driver {name}", reporter):
        if not load:
            return _install(node, reporter)
        census = node.census
        if census.missing:
            return _without_gpu(node, reporter, census)
        if census.required:
            reporter.phase("plan", census.text)
        target, built = _warm(node, reporter), None
        if target is None:
            target, built = _provided(node, reporter)
        return work(target, reporter, census, built)


def work(
    target: Target, reporter: Reporter, census: Census, built: Built | None = None
) -> Activated:
    """Brings ``target`` up on the running kernel; ``built`` is what it was made of just now.

    The caller has the driver's lock. Where another generation is loaded it is replaced.
    Raises FallbackError where another generation had to take the place of ``target`` instead.
    """
    node, generation = target.node, target.generation
    reporter.about(key=generation.contents.identity.key)
    begun = _bring_up(target, reporter, census)
    # The driver works: this is for the next boot, and may take minutes.
    later = free_initramfs(node, reporter, generation.contents.release)
    tell(node, reporter, later)
    collect_old(node, reporter)
    reporter.phase("ready", f"{node.instance} on {node.kernel.release}")
    changed = begun.changed or generation.changed
    return Activated(READY, built, generation, changed, (*begun.findings, *later))


def _bring_up(target: Target, reporter: Reporter, census: Census) -> Begun:
    """Brings ``target`` up, by a switch or by a start."""
    node = target.node
    if target.another_is_loaded:
        from modulus.pipeline.activate.switch import loaded_target, switch

        old = loaded_target(node)
        if old:
            return switch(target, old, reporter)
    # Raises BusyError where somebody else's is loaded, before anything is changed.
    missing = to_load(node, target.generation, target.wanted)
    was_active = target.is_active
    try:
        return begin(target, reporter, census)
    except Exception as error:
        # Where all modules were loaded they worked a moment ago, and get their files back,
        # whatever is set. A driver that was active too has failed since: a person sees to it.
        if node.settings.auto_fallback if missing else not was_active:
            from modulus.pipeline.activate.fallback import fall_back_from

            fall_back_from(target, reporter, error)
        raise


def _provided(node: Node, reporter: Reporter) -> tuple[Target, Built]:
    """The target that is made for the running kernel now, if need be by a build."""
    from modulus.pipeline.activate.provide import provide

    try:
        provided = provide(node, reporter)
    except ModulusError as error:
        from modulus.pipeline.activate.fallback import tide_over

        tide_over(node, reporter, error)
        raise
    return make_target(node, provided.generation), provided.built


def _install(node: Node, reporter: Reporter) -> Activated:
    from modulus.pipeline.activate.provide import provide

    provided = provide(node, reporter)
    target = make_target(node, provided.generation)
    # Libraries must not change under a driver that is at work.
    to_load(node, target.generation, target.wanted)
    changed = put_in_place(target, reporter) or target.generation.changed
    return Activated(INSTALLED, provided.built, target.generation, changed)


def _without_gpu(node: Node, reporter: Reporter, census: Census) -> Activated:
    """Does what ``on_no_gpu`` says, on a node that has no GPU for the driver, or not yet."""
    if node.settings.on_no_gpu == "fail":
        raise no_gpu(census, node.instance.profile)
    reporter.phase("plan", f"{census.text}: on_no_gpu is {node.settings.on_no_gpu}")
    if node.settings.on_no_gpu == "wait":
        # Before a GPU comes, for which udev would load a rival.
        configure(node, node.kernel.release)
        target = _warm(node, reporter)
        if target:
            if not target.is_active:
                to_load(node, target.generation, target.wanted)
            return Activated(WAITING, None, target.generation, put_in_place(target, reporter))
        done = _install(node, reporter)
        return Activated(WAITING, done.built, done.generation, done.changed)
    from modulus.pipeline.build.build import build

    node.site.tell_store_problems(reporter)
    with node.site.using_cache(reporter):
        built = build(node, reporter, node.kernel.release)
    return Activated(BUILT, built, None, not built.hit)


def _warm(node: Node, reporter: Reporter) -> Target | None:
    """The generation that is in place for this kernel, if it is sound."""
    generation = warm(node)
    if generation is None:
        return None
    try:
        target = make_target(node, generation)
        if target.another_is_loaded:
            # What works now is replaced only by what is whole.
            _check_whole(generation, reporter)
        else:
            # Without a GPU it does not matter yet what is loaded.
            needed = target.wanted
            if not node.census.missing:
                needed = not_loaded(node.site.root, target.wanted)
            check_startable(generation, needed)
    except IntegrityError as error:
        reporter.warn(f"{generation.name} is damaged: {error.message}")
        return None
    if not node.census.missing and not _is_for_all_gpus(target, reporter):
        return None
    reporter.phase("plan", f"warm: {generation.name} is for this kernel")
    return target


def _is_for_all_gpus(target: Target, reporter: Reporter) -> bool:
    """Whether no GPU that came since calls for another flavour, where all have to work.

    Raises UnsupportedError where no flavour drives them all.
    """
    if not target.node.settings.require_all_gpus:
        return True
    from modulus.pipeline.build import source
    from modulus.pipeline.build.plan import flavour

    try:
        choice = flavour(target.node, source.recorded(target.node))
    except IntegrityError as error:
        reporter.warn(f"it is not known which GPUs the driver is for: {error.message}")
        return True
    return choice.flavour == target.generation.contents.identity.flavour


def _check_whole(generation: Generation, reporter: Reporter) -> None:
    """Raises IntegrityError where a file is not what was installed."""
    problem = verify_generation(generation, reporter)
    if problem:
        raise IntegrityError(problem, "run modulus up again")
