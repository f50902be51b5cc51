"""The plan: what would be done for an instance on a kernel and why, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modulus.core.gpu.flavour import DroppedGpu
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
    unknown. ``dropped`` are the GPUs that the flavour does not drive.
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
    dropped: tuple[DroppedGpu, ...] = ()

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Every input that can change a build's bits, by name."""
        return {
            "recipe": self.recipe or UNKNOWN,
            "source": self.source or UNKNOWN,
            "flavour": self.flavour,
            "profile": self.profile,
            "arch": self.arch,
            "kernel": self.kernel,
            "headers": self.headers or UNKNOWN,
            "symvers": self.symvers or UNKNOWN,
            "toolchain": self.toolchain or UNKNOWN,
        }

    @cached_property
    def key(self) -> str | None:
        """The key of the build; None while an input is unknown."""
        return build_key(self.inputs)


@dataclass(frozen=True)
class Plan:
    """What to do for one kernel; ``miss`` says why it takes a build, and is empty for a hit."""

    facts: Facts
    miss: tuple[Difference, ...]
    steps: tuple[Step, ...]

    @property
    def hit(self) -> bool:
        """Whether the store has the build."""
        return not self.miss


def make_plan(facts: Facts, miss: tuple[Difference, ...], then: tuple[Step, ...]) -> Plan:
    """The plan from ``facts``, with the steps ``then`` after the build."""
    return Plan(facts, miss, (*(_build_steps(facts) if miss else ()), *then))


def explain_miss(facts: Facts, stored: Iterable[Mapping[str, Any]]) -> tuple[Difference, ...]:
    """Why the store has no build for ``facts``; never empty.

    ``stored`` are the inputs of the builds of this profile.
    """
    closest = nearest(facts.inputs, stored)
    if closest is None:
        empty = f"no build of {facts.instance.profile}"
        return (Difference("store", empty, f"{facts.instance} for {facts.kernel}"),)
    # The same inputs and yet no hit: the store's entry for them is no good.
    return closest or (Difference("store", "damaged", "to be built again"),)


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
