"""How a node builds its driver for a kernel."""

from __future__ import annotations

import os

from modulus.core.build.proof import distrusted
from modulus.core.build.recipe import Recipe
from modulus.host.build.compile import digest_of
from modulus.host.build.proofs import read_disproofs
from modulus.pipeline.node import Node

_JOB_MEMORY = 1 << 30
"""Bytes of memory a compiler job may need; the largest objects seen take about a third."""


def recipe_for(node: Node, release: str, cc: str) -> Recipe:
    """The recipe for kernel ``release`` with the compiler ``cc``."""
    profile = node.profile
    make = profile.make_for(release)
    return Recipe(
        modules=profile.build,
        release=release,
        arch=node.arch,
        cc=cc,
        jobs=_jobs(node),
        targets=make.targets,
        variables=make.variables,
        patches=profile.patches_for(release, node.instance.version),
        files=profile.files_for(node.instance.version),
        work=profile.work,
        causes=profile.causes,
        batch=make.batch,
    )


def recipe_digest_for(node: Node, release: str, cc: str) -> str:
    """The digest of that recipe in a build's key."""
    contained = node.settings.build.container != "none"
    return digest_of(recipe_for(node, release, cc), contained=contained)


def takes_no_shortcuts(node: Node, recipe: str | None) -> bool:
    """Whether the recipe of digest ``recipe`` was disproved here, so that builds are plain."""
    return distrusted(recipe, read_disproofs(node.paths))


def _jobs(node: Node) -> int:
    if node.settings.build.jobs is not None:
        return node.settings.build.jobs
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if node.settings.build.memory_max:
        memory = min(memory, node.settings.build.memory_max)
    return max(1, min(cores, memory // _JOB_MEMORY))
