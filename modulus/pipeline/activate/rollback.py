"""``rollback``: back to a generation that worked before the one that is the driver now."""

from __future__ import annotations

from modulus.core.gpu.census import no_gpu
from modulus.errors import UsageError
from modulus.host.build.proofs import sound_first, why_condemned
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import Generation, active_generation, verify_generation
from modulus.host.generation.last_good import good_generations, recorded_drivers
from modulus.host.kernel.probe import running_kernel
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.begin import make_target
from modulus.pipeline.activate.fallback import warn_unless_enabled
from modulus.pipeline.activate.up import Activated, work
from modulus.pipeline.activate.warm import has_build, warm
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site


def choose(site: Site, reporter: Reporter, name: str | None = None) -> tuple[Node, Generation]:
    """The newest whole generation of the driver ``name`` that worked on the running kernel and
    is not active, with its instance; one with condemned modules only where there is no other.

    Without ``name`` there must be one driver only. Raises UsageError where there is nothing to
    go back to.
    """
    name = name or _only_driver(site)
    running = running_kernel(site.root)
    driver = DriverPaths(site.root, name)
    active = active_generation(driver)
    good = good_generations(driver, running) if running else ()
    for generation in sound_first(site.root, good):
        if active and generation.name == active.name:
            continue
        problem = verify_generation(generation, reporter)
        if problem is None:
            node = Node(site, generation.contents.identity.instance)
            why = why_condemned(site.root, generation)
            if why:
                then = (
                    f"; the next boot takes another build of {node.instance} in their place"
                    if has_build(node)
                    else ""
                )
                reporter.warn(f"the modules of {generation.name} are condemned: {why}{then}")
            return node, generation
        reporter.warn(f"{generation.name} is damaged: {problem}")
    raise UsageError(
        f"no other generation of {name} has worked on kernel "
        f"{running.release if running else '(none)'} and is still there",
        "modulus up INSTANCE makes another version the driver",
    )


def rollback(node: Node, reporter: Reporter, generation: Generation) -> Activated:
    """Brings up ``generation``, of the instance of ``node``, which is selected then.

    Raises as ``up`` does: BusyError where the driver is in use, FallbackError where that
    generation does not work any more and the one before is back.
    """
    name = node.instance.profile
    with node.site.lock(f"up-{name}", f"the driver {name}", reporter):
        if node.census.missing:
            raise no_gpu(node.census, name)
        reporter.phase("plan", f"back to {generation.name}, which worked")
        done = work(make_target(node, generation), reporter, node.census)
        warn_unless_enabled(node, reporter)
        wanted = warm(node)
        if wanted is None or wanted.name != generation.name:
            reporter.warn(
                f"the settings ask for another generation of {node.instance}: the next modulus "
                "up makes it the driver again, unless they are changed back"
            )
        return done


def _only_driver(site: Site) -> str:
    drivers = recorded_drivers(site.root)
    if len(drivers) == 1:
        return drivers[0]
    if drivers:
        raise UsageError(
            f"several drivers have worked here: {', '.join(drivers)}",
            f"name one, such as modulus rollback {drivers[0]}",
        )
    raise UsageError(
        "no driver has worked here yet", "modulus up INSTANCE makes one the driver"
    )
