"""The script that builds a driver, as text, and its digest for a build's key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from modulus.core.build.recipe import (
    RESULTS_AT,
    SOURCES_AT,
    WORK_AT,
    Recipe,
    make_argv,
    spellings,
)
from modulus.core.profile.profile import RECIPE_FILES
from modulus.core.render import render
from modulus.core.store.keys import digest

FOLDER = ".recipe"
"""The folder of the script and its files, in the folder for results."""
NAME = "build.sh"


def build_script(recipe: Recipe, seen: Callable[[str], str], *, again: bool = False) -> str:
    """The text of the build script.

    ``seen`` gives the path at which the payload sees a mount target of the container. With
    ``again`` the work folder already has the sources, and objects that make keeps.
    """
    results = seen(RESULTS_AT)
    folder = f"{results}/{FOLDER}"
    return render(
        "build.sh.j2",
        again=again,
        recipe=folder,
        jobs=recipe.jobs,
        cc=recipe.cc,
        strip=recipe.strip,
        batch=recipe.batch and not again,
        appended=[
            {"path": f"{folder}/{Path(file.path).name}", "to": file.append_to}
            for file in recipe.files
            if file.append_to
        ],
        src=seen(SOURCES_AT),
        work=seen(WORK_AT),
        make=make_argv(recipe, seen),
        patches=[f"{folder}/{name}" for name in patch_names(recipe)],
        modules=[
            {
                "name": name,
                "files": sorted({f"{spelt}.ko" for spelt in spellings(name)}),
                "output": f"{results}/{name}.ko",
            }
            for name in recipe.modules
        ],
    )


def patch_names(recipe: Recipe) -> tuple[str, ...]:
    """The names of the recipe's patches beside the script, in order."""
    return tuple(f"{number:02d}-{path.name}" for number, path in enumerate(recipe.patches))


def payload_names(recipe: Recipe) -> tuple[str, ...]:
    """The files of ``modulus/payload`` that a build by ``recipe`` may use.

    A profile's own files may use any of them.
    """
    if not (recipe.batch or recipe.files):
        return ()
    return tuple(name for name in RECIPE_FILES if name != NAME)


def recipe_digest(recipe: Recipe, payload: Mapping[str, str], *, contained: bool) -> str:
    """The sha256 of what Modulus itself and make's command line add to a build's bits.

    ``payload`` has the sha256 of each of ``payload_names``. The number of jobs is left out,
    and without a container the folders' names: they differ each time, and the compiler maps
    them to the container's.
    """

    def seen(target: str) -> str:
        return target if contained else f"{{{target}}}"

    one_job = replace(recipe, jobs=1)
    scripts = [build_script(one_job, seen, again=again) for again in (False, True)]
    return digest({"scripts": scripts, "payload": dict(payload)})
