"""The plan: what would be done for an instance on a kernel and why, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modulus.core.instance import Instance
from modulus.core.store.keys import UNKNOWN, Difference, build_key, nearest


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    phase: str
    what: str
    why: str


@dataclass(frozen=True)
class Facts:
    """The facts that decide a plan; a node knows them without the network.

    ``recipe``, ``source``, ``headers``, ``symvers`` and ``toolchain`` are digests, None while
    unknown.
    """

    instance: Instance
    kernel: str
    arch: str
    flavour: str
    flavour_reason: str
    profile: Mapping[str, Any]
    recipe: str | None
    source: str | None
    downloaded: bool
    headers: str | None
    symvers: str | None
    toolchain: str | None


@dataclass(frozen=True)
class Plan:
    """What to do for one kernel; ``key`` is None while an input is unknown."""

    facts: Facts
    inputs: Mapping[str, Any]
    key: str | None
    hit: bool
    miss: tuple[Difference, ...]
    steps: tuple[Step, ...]


def inputs_of(facts: Facts) -> dict[str, Any]:
    """Every input that can change a build's bits, by name."""
    return {
        "recipe": facts.recipe or UNKNOWN,
        "source": facts.source or UNKNOWN,
        "flavour": facts.flavour,
        "profile": facts.profile,
        "arch": facts.arch,
        "kernel": facts.kernel,
        "headers": facts.headers or UNKNOWN,
        "symvers": facts.symvers or UNKNOWN,
        "toolchain": facts.toolchain or UNKNOWN,
    }


def make_plan(
    facts: Facts,
    inputs: Mapping[str, Any],
    *,
    hit: bool,
    stored: Iterable[Mapping[str, Any]],
    then: tuple[Step, ...],
) -> Plan:
    """The plan from ``facts`` and their ``inputs``.

    ``stored`` are the inputs of this profile's builds, ``hit`` says that the store has the
    key, ``then`` are the steps after the build.
    """
    steps = [] if hit else _build_steps(facts)
    return Plan(
        facts,
        inputs,
        build_key(inputs),
        hit,
        () if hit else _miss(facts, inputs, stored),
        (*steps, *then),
    )


def _build_steps(facts: Facts) -> list[Step]:
    steps = []
    if not facts.headers:
        steps.append(Step("provision", f"headers of {facts.kernel}", "none recorded"))
    if not facts.toolchain:
        steps.append(Step("provision", "the kernel's compiler", "no toolchain recorded"))
    if not facts.downloaded:
        steps.append(Step("fetch", f"the sources of {facts.instance}", "not in the cache"))
    steps.append(Step("unpack", f"the {facts.flavour} sources", facts.flavour_reason))
    steps.append(Step("build", f"{facts.instance} for {facts.kernel}", "not in the store"))
    steps.append(Step("commit", "the modules to the store", "built"))
    return steps


def _miss(
    facts: Facts, inputs: Mapping[str, Any], stored: Iterable[Mapping[str, Any]]
) -> tuple[Difference, ...]:
    closest = nearest(inputs, stored)
    if closest is None:
        empty = f"no build of {facts.instance.profile}"
        return (Difference("store", empty, f"{facts.instance} for {facts.kernel}"),)
    # The same inputs and yet no hit: the store's entry for them is no good.
    return closest or (Difference("store", "damaged", "to be built again"),)
