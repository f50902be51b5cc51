"""The state of every instance a system knows of, and the kernels that each is ready for."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from modulus.core.instance import Instance, parse_instance
from modulus.core.status.state import Failure, KernelReady, State
from modulus.errors import ModulusError, UsageError
from modulus.host.bus.agents import Agents
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.enabled import (
    active_generations,
    enabled_instances,
    selected_instance,
    selected_instances,
)
from modulus.host.generation.install import Generation, active_generation
from modulus.host.kernel.next_boot import default_kernel
from modulus.host.kernel.probe import running_kernel
from modulus.host.status.build_counts import change_record
from modulus.host.status.files import read_state, read_states
from modulus.pipeline.activate.verify import failure, missing_generation, proof_of
from modulus.pipeline.build.plan import gather, is_stored
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site

_AT_WORK = ("ready", "watch")


def status(site: Site, instance: Instance | None = None) -> tuple[State, ...]:
    """The state of ``instance``, or of all: those that run or ran since boot, are enabled,
    selected or the active driver.

    An agent that runs is asked over the bus; else the state that it left in /run counts.
    Nothing is changed, and the network is not used.
    """
    wanted = (instance,) if instance else _known(site)
    with Agents(site.root) as agents:
        return tuple(_state(site, one, agents) for one in wanted)


def record_kernels(node: Node) -> None:
    """Records for the agent which kernels the node is ready for; finding out takes long."""
    ready = kernels(node, _active(node.site, node.instance))
    change_record(
        node.site.root, str(node.instance), lambda record: replace(record, kernels=ready)
    )


def kernels(node: Node, active: Generation | None) -> tuple[KernelReady, ...]:
    """Every installed kernel, and whether this driver would be there on it without a build.

    The running kernel needs the ``active`` generation, made for it to the bit; for another
    kernel that, or a build in the store, will do.
    """
    installed = node.site.host.kernels
    default = default_kernel(node.site.root, installed)
    running = running_kernel(node.site.root)
    made_for = active.contents.identity.kernel if active else None

    def is_ready(release: str) -> bool:
        if running and release == running.release:
            return made_for == running
        return (made_for and made_for.release) == release or _is_stored(node, release)

    return tuple(
        KernelReady(release, is_ready(release), release == default) for release in installed
    )


def _known(site: Site) -> tuple[Instance, ...]:
    found = {*enabled_instances(site.root), *selected_instances(site.root)}
    found |= {active.contents.identity.instance for active in active_generations(site.root)}
    for state in read_states(site.root):
        with contextlib.suppress(UsageError):
            found.add(parse_instance(state.instance, ""))
    return tuple(sorted(found))


def _state(site: Site, instance: Instance, agents: Agents) -> State:
    """The state by the instance's agent or its file in /run, corrected by what is in place."""
    name = str(instance)
    state = agents.state(name) or read_state(site.root, name) or State(name, None)
    active = _active(site, instance)
    proof = proof_of(site, active) if active else None
    if active is None and state.phase in _AT_WORK and state.active:
        state = replace(state, phase=None)
    return replace(
        _unless_broken(site, state, instance),
        active=active is not None,
        selected=selected_instance(DriverPaths(site.root, instance.profile)) == instance,
        key=active.contents.identity.key if active and not state.key else state.key,
        generation=active.name if active else state.generation,
        proof=proof.result if proof else None,
        kernels=kernels(Node(site, instance), active),
    )


def _active(site: Site, instance: Instance) -> Generation | None:
    active = active_generation(DriverPaths(site.root, instance.profile))
    return active if active and active.contents.identity.instance == instance else None


def _unless_broken(site: Site, state: State, instance: Instance) -> State:
    """``state``; a failed one if nothing is under way and the selected driver is missing."""
    driver = DriverPaths(site.root, instance.profile)
    if state.phase is not None or selected_instance(driver) != instance:
        return state
    finding = missing_generation(driver)
    error = finding and failure((finding,), finding.level)
    if not finding or not error:
        return state
    return replace(
        state,
        phase="failed",
        findings=(finding,),
        error=Failure.of(error),
    )


def _is_stored(node: Node, release: str) -> bool:
    try:
        return is_stored(node, gather(node, release))
    except ModulusError:
        # This kernel will not do, or the profile is gone; plan tells which.
        return False
