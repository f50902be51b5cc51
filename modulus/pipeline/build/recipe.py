"""How a node builds its driver for a kernel."""

from __future__ import annotations

import os

from modulus.core.build.proof import distrusted
from modulus.core.build.recipe import Recipe, plainly
from modulus.core.kernel.release import Compiler
from modulus.host.build.compile import digest_of
from modulus.host.build.proofs import read_disproofs
from modulus.pipeline.node import Node

_JOB_MEMORY = 1 << 30
"""Bytes of memory a compiler job may need; the largest objects seen take about a third."""


def recipe_for(node: Node, release: str, compiler: Compiler) -> Recipe:
    """The recipe for kernel ``release`` with its ``compiler``."""
    profile = node.profile
    make = profile.make_for(release)
    recipe = Recipe(
        modules=profile.build,
        release=release,
        arch=node.arch,
        cc=compiler.command,
        jobs=_jobs(node),
        targets=make.targets,
        variables={**compiler.make_variables, **make.variables},
        patches=profile.patches_for(release, node.instance.version),
        files=profile.files_for(node.instance.version),
        work=profile.work,
        causes=profile.causes,
        batch=make.batch,
        strip=compiler.strip,
    )
    # What saves time has only been held to the vendor's own way with GCC.
    return recipe if compiler.kind == "gcc" else plainly(recipe)


def recipe_digest_for(node: Node, release: str, compiler: Compiler) -> str:
    """The digest of that recipe in a build's key."""
    contained = node.settings.build.container != "none"
    return digest_of(recipe_for(node, release, compiler), contained=contained)


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
