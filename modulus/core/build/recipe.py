"""How a driver is built for a kernel, and make's command line for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from modulus.core.profile.build_causes import Cause
from modulus.core.profile.profile import BuildFile
from modulus.core.profile.progress import Work
from modulus.errors import ConfigError

SOURCES_AT = "/src"
WORK_AT = "/build"
RESULTS_AT = "/out"
HEADERS_AT = "/usr/src/linux"

_KBUILD_ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Recipe:
    """How to build one driver for one kernel.

    ``arch`` is what ``uname -m`` says. Values of ``variables``, given to make, may hold
    ``{source}`` and ``{build}`` (the two halves of the headers), ``{work}``, ``{cc}``,
    ``{arch}`` (kbuild's name of it), ``{jobs}`` and ``{modules}``. ``patches`` are applied in
    order with ``-p1``. ``work`` and ``causes`` serve progress and diagnosis, ``batch`` compiles
    objects together (payload/batch.sh). These three and ``jobs`` change no bit of the result.
    ``files`` lie beside the build script. ``strip`` is the program that strips modules.
    """

    modules: tuple[str, ...]
    release: str
    arch: str
    cc: str
    jobs: int
    targets: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[Path, ...] = ()
    files: tuple[BuildFile, ...] = ()
    work: tuple[Work, ...] = ()
    causes: tuple[Cause, ...] = ()
    batch: bool = False
    strip: str = "strip"


def takes_shortcuts(recipe: Recipe) -> bool:
    """Whether a build by ``recipe`` does anything that only saves time."""
    return plainly(recipe) != recipe


def plainly(recipe: Recipe) -> Recipe:
    """``recipe`` without what only saves time: the vendor's own way."""
    own = tuple(file for file in recipe.files if not file.shortcut)
    return replace(recipe, batch=False, files=own)


def make_argv(recipe: Recipe, seen: Callable[[str], str]) -> list[str]:
    """make's argument list; ``seen`` gives the path where the payload sees a mount target."""
    work = seen(WORK_AT)
    headers = seen(HEADERS_AT)
    known = {
        "source": f"{headers}/source",
        "build": f"{headers}/build",
        "work": work,
        "cc": recipe.cc,
        "arch": _KBUILD_ARCH.get(recipe.arch, recipe.arch),
        "jobs": str(recipe.jobs),
        "modules": " ".join(recipe.modules),
    }

    def fill(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise ConfigError(
                f"the profile gives make {found[0]}, which is nothing known",
                f"use one of {', '.join(f'{{{name}}}' for name in known)}",
            )
        return known[found[1]]

    variables = {
        name: re.sub(r"\{(\w+)\}", fill, value) for name, value in recipe.variables.items()
    }
    if work != WORK_AT:
        # Without a container the folder's name would end up in the modules, by __FILE__.
        flags = variables.get("KCFLAGS", "")
        variables["KCFLAGS"] = f"{flags} -ffile-prefix-map={work}={WORK_AT}".strip()
    assignments = [f"{name}={value}" for name, value in variables.items()]
    return ["make", f"-j{recipe.jobs}", *recipe.targets, *assignments]


def spellings(name: str) -> tuple[str, ...]:
    """The names that a module's file may have: with hyphens for underscores, or the reverse."""
    return name, name.replace("-", "_"), name.replace("_", "-")
