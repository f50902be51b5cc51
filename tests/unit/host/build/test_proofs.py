"""Which disproofs are remembered, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.core.build.proof import Disproof
from modulus.host.build.proofs import add_disproof, read_disproofs
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import remove_driver
from tests.support.headertrees import write

MOST = 16


def disproof(recipe: int, key: int, day: int = 1, module: str = "a") -> Disproof:
    at = f"2026-01-{day:02}T00:00:00Z"
    return Disproof(f"{recipe:064x}", f"{key:064x}", (module * 64,), ("gpu.o",), at)


def test_down_does_not_forget_them(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "gpu")
    add_disproof(driver, disproof(1, 1))
    write(tmp_path / "var/lib/modulus/gpu/selected", "gpu-1.0\n")
    assert remove_driver(driver) == ("/var/lib/modulus/gpu",)
    assert read_disproofs(driver) == (disproof(1, 1),)


def test_the_newest_of_one_build_counts(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "gpu")
    other = disproof(1, 1, module="b")
    for one in (disproof(1, 1), other, disproof(1, 2), disproof(1, 1, day=2)):
        add_disproof(driver, one)
    # Other modules of the same key are wrong all the same, wherever they are.
    assert read_disproofs(driver) == (disproof(1, 1, day=2), disproof(1, 2), other)


@pytest.mark.parametrize("recipes", [[1, *[2] * MOST], [*range(1, MOST + 2)]])
def test_a_recipe_is_forgotten_after_what_others_speak_for(
    tmp_path: Path, recipes: list[int]
) -> None:
    driver = DriverPaths(tmp_path, "gpu")
    all_of_them = [disproof(recipe, key) for key, recipe in enumerate(recipes)]
    for one in all_of_them:
        add_disproof(driver, one)
    known = read_disproofs(driver)
    assert len(known) == MOST and known[0] == all_of_them[-1]
    # Of two recipes the first stays, for all that came of the second; else the oldest goes.
    assert (all_of_them[0] in known) is (set(recipes) == {1, 2})
    assert list(known) == [one for one in reversed(all_of_them) if one in known]
