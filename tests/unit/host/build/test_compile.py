"""The build step: the real script with a fake make."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.build.recipe import make_argv
from modulus.core.profile.profile import BuildFile
from modulus.core.profile.progress import Work
from modulus.errors import BuildError, ConfigError
from modulus.host.build.module_check import Module
from modulus.host.process.run import run
from tests.unit.host.build.conftest import RELEASE, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """``run`` is from here: it has the tests of this file run with each version of sh."""
    return Bench(tmp_path, run)


def test_builds_a_module_and_says_what_it_is(bench: Bench) -> None:
    data = bench.leaves()
    assert bench.compile() == (
        Module(
            name="big-one",
            file="big-one.ko",
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            vermagic=f"{RELEASE} SMP mod_unload",
            srcversion="ABC",
        ),
    )
    assert [path.name for path in bench.out.iterdir()] == ["big-one.ko"]
    assert (bench.root / "build/sub/a.c").read_text() == "int a;\n"
    assert bench.heard.errors == []


@pytest.mark.parametrize("file", ["big-one.ko", "big_one.ko"])
def test_finds_either_spelling_of_a_modules_file(bench: Bench, file: str) -> None:
    bench.leaves(file)
    assert bench.compile()[0].file == "big-one.ko"


def test_the_environment_holds_nothing_that_differs_between_builds(bench: Bench) -> None:
    bench.leaves()
    bench.compile()
    seen = (bench.fake / "env").read_text().splitlines()
    assert {"LC_ALL=C", "TZ=UTC", "SOURCE_DATE_EPOCH=315532800", "0022"} <= set(seen)
    assert "KBUILD_BUILD_USER=modulus" in seen


def test_make_gets_the_profiles_variables(bench: Bench) -> None:
    bench.leaves()
    variables = {
        "SYSSRC": "{source}",
        "SYSOUT": "{build}",
        "CC": "{cc}",
        "ARCH": "{arch}",
        "EMPTY": "",
        "M": "{work}",
        "KCFLAGS": "-g0",
    }
    bench.compile(targets=("modules",), variables=variables)
    root = bench.root
    assert (bench.fake / "argv").read_text().splitlines() == [
        "-j3",
        "modules",
        f"SYSSRC={root}/usr/src/linux/source",
        f"SYSOUT={root}/usr/src/linux/build",
        "CC=gcc-12",
        "ARCH=x86_64",
        "EMPTY=",
        f"M={root}/build",
        f"KCFLAGS=-g0 -ffile-prefix-map={root}/build=/build",
    ]


def test_at_the_fixed_paths_no_prefix_is_mapped(bench: Bench) -> None:
    recipe = replace(
        bench.recipe, arch="aarch64", variables={"ARCH": "{arch}", "X": "{modules} $(A)"}
    )
    argv = make_argv(recipe, lambda target: target)
    assert argv == ["make", "-j3", "ARCH=arm64", "X=big-one $(A)"]


def test_an_unknown_placeholder_is_the_profiles_fault(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"\{sauce\}") as caught:
        bench.compile(variables={"X": "{sauce}"})
    assert "{source}" in caught.value.hint


def test_patches_are_applied_in_order(bench: Bench) -> None:
    bench.leaves()
    patches = []
    for number, (old, new) in enumerate([("a", "b"), ("b", "c")]):
        patch = bench.root / f"{number}" / "same.patch"
        patch.parent.mkdir()
        patch.write_text(
            f"--- a/sub/a.c\n+++ b/sub/a.c\n@@ -1 +1 @@\n-int {old};\n+int {new};\n"
        )
        patches.append(patch)
    bench.compile(patches=tuple(patches))
    assert (bench.root / "build/sub/a.c").read_text() == "int c;\n"
    assert (bench.root / "src/sub/a.c").read_text() == "int a;\n"
    assert sorted(path.name for path in (bench.root / "build/sub").iterdir()) == ["a.c"]


def test_files_of_the_profile_lie_beside_the_script(bench: Bench) -> None:
    bench.leaves()
    for name, text in (("end.mk", "end\n"), ("tool.sh", "tool\n")):
        (bench.root / name).write_text(text)
    # What there is no file for in these sources is for those of another version.
    bench.compile(
        files=tuple(
            BuildFile(f"one/{name}", target, path=str(bench.root / name))
            for name, target in (("end.mk", "Kbuild"), ("tool.sh", "sub/none"))
        )
    )
    assert (bench.root / "build/Kbuild").read_text() == (
        (bench.root / "src/Kbuild").read_text() + "end\n"
    )
    assert not (bench.root / "build/sub/none").exists()
    environment = (bench.fake / "env").read_text().splitlines()
    assert f"MODULUS_RECIPE={bench.root}/out/.recipe" in environment
    assert "MODULUS_JOBS=3" in environment


def test_a_patch_that_does_not_apply_ends_the_build(bench: Bench) -> None:
    bench.leaves()
    patch = bench.root / "other.patch"
    patch.write_text("--- a/sub/a.c\n+++ b/sub/a.c\n@@ -1 +1 @@\n-int z;\n+int y;\n")
    with pytest.raises(BuildError, match="a patch of the profile does not apply"):
        bench.compile(patches=(patch,))
    assert not (bench.fake / "argv").exists()


def test_progress_comes_from_sources_and_log(bench: Bench) -> None:
    bench.leaves()
    bench.make_does(
        "  CC [M]  sub/a.o",
        "noise",
        "  CC [M]  sub/b.o",
        "  LD [M]  big-one.o",
        "  CC [M]  big-one.mod.o",
        "  LD [M]  big-one.ko",
    )
    objects = Work(
        done=r"  CC \[M\] ", count=r"^SOURCES \+= (\S+)", files=("Kbuild",), weight=3
    )
    bench.compile(work=(objects,))
    done = [0, 3, 6, 7, 10, 11, 11]
    assert bench.heard.progressed == [(step, 11) for step in done]


def test_the_log_is_whole_and_on_disk_as_it_comes(bench: Bench) -> None:
    bench.leaves()
    bench.make_does("one", "", "zwei \N{SNOWMAN}", "  LD [M]  x.o")
    seen: list[str] = []
    original = bench.heard.progress

    def progress(phase: str, done: int, total: int, unit: str = "") -> None:
        seen.append(bench.log.read_text() if bench.log.exists() else "")
        original(phase, done, total, unit)

    bench.heard.progress = progress  # type: ignore[method-assign]
    bench.compile()
    assert bench.log.read_text() == "one\n\nzwei \N{SNOWMAN}\n  LD [M]  x.o\n"
    assert seen[1] == bench.log.read_text()


def test_modules_are_ours_and_nobody_else_may_write_them(bench: Bench) -> None:
    bench.leaves()
    bench.tool("strip", '#!/bin/sh\ncp "$4" "$3" && chmod 777 "$3"\n')
    bench.compile()
    assert (bench.out / "big-one.ko").stat().st_mode & 0o777 == 0o644


def test_old_scripts_in_the_results_are_replaced(bench: Bench) -> None:
    bench.leaves()
    (bench.out / ".recipe").mkdir()
    (bench.out / ".recipe/build.sh").write_text("exit 9\n")
    assert [module.name for module in bench.compile()] == ["big-one"]
