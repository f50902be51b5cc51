"""Goes back to a generation that worked on this kernel, where the wanted one does not."""

from __future__ import annotations

from collections.abc import Sequence

from modulus.core.gpu.census import Census
from modulus.errors import BusyError, FallbackError, ModulusError
from modulus.host.build.proofs import sound_first, why_condemned
from modulus.host.generation.enabled import enabled_instances
from modulus.host.generation.install import Generation, write_selected
from modulus.host.generation.last_good import good_generations
from modulus.host.gpu.census import take_census
from modulus.host.modules.load import loaded
from modulus.host.modules.unload import unload
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.begin import Target, begin, make_target, put_in_place
from modulus.pipeline.activate.in_use import look_in_use
from modulus.pipeline.activate.load import start
from modulus.pipeline.activate.startable import check_startable
from modulus.pipeline.node import Node


def ways_back(node: Node, *without: Generation) -> tuple[Generation, ...]:
    """The generations that worked on this kernel, except ``without``: the newest first, and
    those with condemned modules last."""
    names = {generation.name for generation in without}
    good = good_generations(node.paths, node.kernel)
    others = (generation for generation in good if generation.name not in names)
    return sound_first(node.site.root, others)


def fall_back_from(failed: Target, reporter: Reporter, error: Exception) -> None:
    """Falls back from ``failed``, which this run has started and which raised ``error``.

    Raises FallbackError once another generation works and its instance is selected. Returns
    where there is none, or none that works: the fault is not the generation's then, and
    ``failed`` stays in its place, loaded as far as it goes.
    """
    node = failed.node
    back = ways_back(node, failed.generation)
    if not back or isinstance(error, BusyError):
        # Another driver has the GPUs, or the kernel hangs: no version mends that.
        return
    again = fall_back(failed, reporter, error, back)
    if again:
        raise fallen(failed, again, error) from error
    reporter.error(f"no other generation works: {failed.generation.name} stays")
    leave(failed, reporter)


def fall_back(
    failed: Target, reporter: Reporter, error: Exception, back: Sequence[Generation]
) -> Target | None:
    """The first of ``back`` that works in the place of ``failed``, loaded, verified and
    selected; None where none does."""
    node = failed.node
    reporter.error(f"{failed.generation.name} does not work: {cause_of(error)}")
    again = _first_that_works(node, reporter, back)
    if again:
        select(again.node, reporter)
        warn_unless_enabled(again.node, reporter)
    return again


def select(node: Node, reporter: Reporter) -> None:
    """Selects the instance of ``node``, whose driver is in its place.

    An error is only reported: which driver works is settled.
    """
    try:
        write_selected(node.paths, node.instance)
    except (ModulusError, OSError) as error:
        reporter.error(f"{node.instance} is not selected: {cause_of(error)}")


def tide_over(node: Node, reporter: Reporter, error: ModulusError) -> None:
    """Brings up a generation that worked, while ``error`` keeps the wanted one away.

    Only where no driver is loaded, such as at a boot; the selection does not change.
    """
    if not node.settings.auto_fallback or node.census.missing:
        return
    if loaded(node.site.root, node.profile.build):
        return
    back = ways_back(node)
    if not back:
        return
    reporter.error(f"{node.instance} cannot be had: {cause_of(error)}")
    again = _first_that_works(node, reporter, back)
    if again:
        reporter.warn(f"until it can, the driver is {again.generation.name}, which worked last")


def leave(target: Target, reporter: Reporter) -> str | None:
    """Puts ``target`` in its place and loads it, unverified; returns what prevented that."""
    try:
        _make_room(target, reporter)
        put_in_place(target, reporter, select=False)
        start(target.node, reporter, target.generation, target.wanted, _census(target.node))
    except Exception as error:
        text = cause_of(error)
        reporter.error(f"{target.generation.name} is not loaded: {text}")
        return text
    return None


def fallen(failed: Target, again: Target, error: Exception) -> FallbackError:
    """The error that says that ``failed`` does not work, and ``again`` does."""
    works = again.told_from(failed.generation)
    fails = failed.told_from(again.generation)
    fix = f"{error.hint}; then " if isinstance(error, ModulusError) else ""
    return FallbackError(
        f"{fails} does not work: {cause_of(error)}; {works} is back, loaded and verified",
        f"{fix}run modulus up {failed.node.instance} again; until then {again.node.instance} "
        "is selected",
    )


def warn_unless_enabled(node: Node, reporter: Reporter) -> None:
    """Warns where units of this driver are enabled, and not the one of ``node``."""
    enabled = [
        instance
        for instance in enabled_instances(node.site.root)
        if instance.profile == node.instance.profile
    ]
    if enabled and node.instance not in enabled:
        reporter.warn(
            f"modulus@{node.instance} is not enabled: the next boot starts {enabled[0]}, "
            f"unless systemctl enable modulus@{node.instance} has been run"
        )


def cause_of(error: Exception) -> str:
    """What went wrong, in a line."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ModulusError):
        text = error.message
    return "; ".join(text.splitlines())


def _first_that_works(
    node: Node, reporter: Reporter, back: Sequence[Generation]
) -> Target | None:
    for generation in back:
        reporter.phase("load", f"back to {generation.name}, which worked")
        try:
            return _bring_back(node, reporter, generation)
        except Exception as error:
            reporter.error(f"{generation.name} does not work: {cause_of(error)}")
    return None


def _bring_back(node: Node, reporter: Reporter, generation: Generation) -> Target:
    target = make_target(Node(node.site, generation.contents.identity.instance), generation)
    check_startable(generation, target.wanted)
    _make_room(target, reporter)
    begin(target, reporter, _census(target.node), select=False)
    why = why_condemned(node.site.root, generation)
    if why:
        reporter.warn(f"the modules of {generation.name} are condemned: {why}")
    return target


def _make_room(target: Target, reporter: Reporter) -> None:
    """Unloads what is in the place of ``target``; BusyError, with its users, if in use."""
    if not target.another_is_loaded:
        return
    node = target.node
    use = look_in_use(node, reporter)
    if use.users.any:
        raise BusyError(
            f"what is loaded is {use.users.text}", "end what uses it, then run it again"
        )
    unload(node.site.root, use.order, reporter)


def _census(node: Node) -> Census:
    return take_census(node.site.root, node.profile)
