"""From the generation that is loaded to another one, or back to what worked.

Nothing is unloaded before the new one is known to be whole and to fit this kernel, and a way
back is known too. A run that is killed anywhere leaves a driver that the next one starts.
"""

from __future__ import annotations

from modulus.core.generation.generation import module_path
from modulus.core.instance import Instance
from modulus.core.kernel.moddep import module_name
from modulus.errors import BusyError, FallbackError, IntegrityError, ModulusError, RefusedError
from modulus.host.generation.install import Generation, active_generation, write_selected
from modulus.host.generation.last_good import good_generations
from modulus.host.gpu.census import take_census
from modulus.host.kernel.module_file import read_module_file
from modulus.host.modules.load import loaded, read_wanted, strangers
from modulus.host.modules.unload import unload
from modulus.host.process.signals import deferred_signals
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.begin import Begun, Target, begin, make_target
from modulus.pipeline.activate.fallback import (
    cause_of,
    fall_back,
    fallen,
    leave,
    select,
    ways_back,
)
from modulus.pipeline.activate.in_use import look_in_use
from modulus.pipeline.activate.load import compose_modules, module_file, modules_of
from modulus.pipeline.activate.startable import check_startable
from modulus.pipeline.node import Node


def loaded_target(node: Node) -> Target | None:
    """The generation whose modules are loaded; None where they are somebody else's, or none.

    The active one and those that worked on this kernel are compared, by their modules' files
    and sysfs.
    """
    active = active_generation(node.paths)
    good = good_generations(node.paths, node.kernel)
    for generation in (active, *good) if active else good:
        if _is_loaded(node, generation):
            instance = generation.contents.identity.instance
            return make_target(Node(node.site, instance), generation)
    return None


def switch(new: Target, old: Target, reporter: Reporter) -> Begun:
    """Makes ``new`` the driver at work in the place of ``old``, which is loaded.

    Raises BusyError where ``old`` is in use: ``new`` is selected then, for the next boot, and
    nothing else is changed. Raises FallbackError where ``new`` does not work: ``old`` is then
    back and selected. Raises, before anything is changed, IntegrityError where there is no way
    back, and RefusedError where ``new``, whose files were all checked, cannot fit this kernel.
    """
    node, root = new.node, new.node.site.root
    says = f"{old.told_from(new.generation)} is loaded"
    reporter.phase("plan", f"{says}, to be replaced by {new.told_from(old.generation)}")
    _check_fit(new)
    back = (old.generation, *ways_back(node, new.generation, old.generation))
    _check_way_back(new, back)
    use = look_in_use(node, reporter)
    if use.users.any:
        raise _refused(new, old, f"{old.node.instance} is {use.users.text}")
    with deferred_signals():
        # First: whatever ends this run, the next one knows which of the two is wanted.
        write_selected(node.paths, node.instance)
        try:
            unload(root, use.order, reporter)
        except ModulusError as error:
            _stay(old, reporter)
            text = f"{old.node.instance} does not go: {cause_of(error)}"
            raise _refused(new, old, text) from error
        try:
            return begin(new, reporter, take_census(root, node.profile))
        except Exception as error:
            again = fall_back(new, reporter, error, back)
            if again is None:
                raise _stuck(new, old, reporter, error) from error
            raise fallen(new, again, error) from error


def _is_loaded(node: Node, generation: Generation) -> bool:
    """Whether all modules of the driver that are loaded are those of ``generation``.

    IntegrityError where they seem to be, but its files cannot tell.
    """
    there = loaded(node.site.root, node.profile.build)
    names = [name for name in node.profile.build if module_name(name) in there]
    try:
        own = [read_wanted(name, module_file(generation, name)) for name in names]
    except IntegrityError as error:
        instance = generation.contents.identity.instance
        if instance.version in [module.version for module in there.values()]:
            raise _no_way_back(node, instance, error.message) from error
        return False
    return bool(own) and not strangers(node.site.root, own)


def _check_fit(new: Target) -> None:
    """Raises RefusedError where a module is for another kernel, or this node lacks what it
    needs; symbols and their versions were checked when it was built, for this very kernel."""
    release = new.node.kernel.release
    for module in new.wanted:
        vermagic = read_module_file(module.path).info("vermagic")
        if vermagic is not None and vermagic.split(" ")[0] != release:
            raise RefusedError(
                f"{module_path(release, f'{module.name}.ko')} of {new.generation.name} is for "
                f"kernel {vermagic.strip()}, and {release} runs",
                "run modulus cache verify, which sets damaged builds aside, then run it again",
            )
    compose_modules(new.node, new.generation, new.wanted)


def _check_way_back(new: Target, back: tuple[Generation, ...]) -> None:
    """Raises IntegrityError where none of ``back`` could be started."""
    problems = []
    for generation in back:
        try:
            check_startable(generation, modules_of(new.node, generation))
            return
        except IntegrityError as error:
            problems.append(f"{generation.name}: {error.message}")
    raise _no_way_back(new.node, back[0].contents.identity.instance, "; ".join(problems))


def _no_way_back(node: Node, old: Instance, problem: str) -> IntegrityError:
    return IntegrityError(
        f"{old}, which is loaded, is damaged on disk ({problem}): if {node.instance} did "
        "not work there would be no way back",
        f"take it away (modulus down {old}), then run modulus up {node.instance}",
    )


def _refused(new: Target, old: Target, text: str) -> BusyError:
    """Selects ``new`` for the next boot; returns the error that says so, and why: ``text``."""
    wanted = new.node.instance
    write_selected(new.node.paths, wanted)
    if wanted == old.node.instance:
        return BusyError(text, "end what uses it and run it again")
    if new.node.settings.switch_busy == "wait":
        return BusyError(
            f"{text}: {wanted} takes its place once that has ended, or at the next boot",
            "end what uses it; without the unit's agent, run it again then",
        )
    return BusyError(
        f"{text}: {wanted} takes its place at the next boot",
        "end what uses it and run it again, or reboot",
    )


def _stay(old: Target, reporter: Reporter) -> None:
    """Loads those modules of ``old`` again that were unloaded before the rest turned out to be
    in use."""
    try:
        begin(old, reporter, take_census(old.node.site.root, old.node.profile), select=False)
    except Exception as error:
        reporter.error(f"{old.node.instance} is not whole: {cause_of(error)}")


def _stuck(new: Target, old: Target, reporter: Reporter, error: Exception) -> FallbackError:
    """Brings back as much of ``old`` as it can; returns the error that says so."""
    names = new.told_from(old.generation), old.told_from(new.generation)
    trouble = leave(old, reporter)
    select(old.node, reporter)
    state = f"does not come back either: {trouble}" if trouble else "is back, but not right"
    return FallbackError(
        f"{names[0]} does not work: {cause_of(error)}; {names[1]} {state}",
        f"see modulus verify and the kernel's log (journalctl -k -b), and reboot, which starts "
        f"{names[1]}",
    )
