"""The build step: the real script with a fake make, in a folder instead of a container."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modulus.core.build.recipe import Recipe, make_argv
from modulus.core.profile.build_causes import Cause
from modulus.core.profile.profile import BuildFile
from modulus.core.profile.progress import Work
from modulus.errors import BuildError, ConfigError, ToolchainError
from modulus.host.build.compile import compile_modules
from modulus.host.build.inspect import Module
from modulus.host.distribution.headers import Headers
from modulus.host.process.run import run
from tests.support.elfmaker import AARCH64, kernel_module

RELEASE = "6.1.0-9-test"
SYMVERS = """\
0x00001111\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t
0x00002222\t_printk\tvmlinux\tEXPORT_SYMBOL\t
"""
MODINFO = {
    "license": "Proprietary",
    "vermagic": f"{RELEASE} SMP mod_unload ",
    "srcversion": "ABC",
    "name": "big_one",
}
VERSIONS = {"module_layout": 0x1111, "_printk": 0x2222}
FAKE_MAKE = """\
#!/bin/sh
# Says what it was asked for and leaves in the work folder what the test put into ../fake.
printf '%s\\n' "$@" > ../fake/argv
env > ../fake/env
umask >> ../fake/env
cat ../fake/log
cp ../fake/*.ko . 2>/dev/null
exit "$(cat ../fake/status)"
"""


class Folder:
    """A container that is only a folder: every target is a path below it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.oom = False

    def path(self, target: str) -> str:
        return f"{self.root}{target}"

    def run(
        self,
        argv: Sequence[str],
        *,
        on_line: Callable[[str], None],
        timeout: float,
        check: Callable[[], None],
    ) -> int:
        path = f"{self.root}/bin:{os.environ['PATH']}"
        return run(
            argv,
            timeout=timeout,
            on_line=on_line,
            check=check,
            env={"PATH": path},
            ok=range(-64, 256),
        ).status


class Heard:
    """A reporter that only remembers."""

    def __init__(self) -> None:
        self.progressed: list[tuple[int, int]] = []
        self.errors: list[str] = []

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        raise AssertionError(instance or key)

    def phase(self, phase: str, text: str) -> None:
        raise AssertionError(text)

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        assert (phase, unit) == ("build", "")
        self.progressed.append((done, total))

    def warn(self, text: str) -> None:
        raise AssertionError(text)

    def error(self, text: str) -> None:
        self.errors.append(text)


class Bench:
    """Sources, headers and fake tools under one folder, and a recipe for them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.container = Folder(root)
        self.heard = Heard()
        self.out = root / "out"
        self.log = root / "build.log"
        self.fake = root / "fake"
        for name in ("src/sub", "build", "out", "fake", "bin", "headers"):
            (root / name).mkdir(parents=True)
        build = root / "headers/build"
        (build / "include/generated").mkdir(parents=True)
        (build / "include/generated/utsrelease.h").write_text(
            f'#define UTS_RELEASE "{RELEASE}"\n'
        )
        (build / "Module.symvers").write_text(SYMVERS)
        (build / ".config").write_text("CONFIG_MODULE_SRCVERSION_ALL=y\n")
        self.headers = Headers("id", root / "headers", RELEASE, "node", "0")
        self.tool("make", FAKE_MAKE)
        self.tool("strip", '#!/bin/sh\n[ "$1 $2" = "--strip-debug -o" ] && cp "$4" "$3"\n')
        (root / "src/sub/a.c").write_text("int a;\n")
        (root / "src/Kbuild").write_text("SOURCES += sub/a.c\nSOURCES += sub/b.c\n")
        (root / "src/Kbuild").chmod(0o444)
        self.make_does()
        self.recipe = Recipe(
            modules=("big-one",), release=RELEASE, arch="x86_64", cc="gcc-12", jobs=3
        )

    def tool(self, name: str, text: str) -> None:
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def make_does(self, *lines: str, status: int = 0) -> None:
        (self.fake / "log").write_text("".join(f"{line}\n" for line in lines))
        (self.fake / "status").write_text(str(status))

    def leaves(self, file: str = "big-one.ko", **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "modinfo": MODINFO,
            "undefined": ["_printk"],
            "versions": VERSIONS,
        }
        data = kernel_module(**{**values, **changes})
        (self.fake / file).write_bytes(data)
        return data

    def compile(self, **changes: Any) -> tuple[Module, ...]:
        return compile_modules(
            self.container,
            replace(self.recipe, **changes),
            sources=self.root / "src",
            headers=self.headers,
            out=self.out,
            log=self.log,
            reporter=self.heard,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


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


def test_a_failure_names_the_first_error_and_the_remedy(bench: Bench) -> None:
    bench.make_does(
        "/b/a.c:1:2: error: implicit declaration of function 'f'",
        "/b/b.c:1:2: error: another",
        "make[1]: *** [x] Error 1",
        status=2,
    )
    with pytest.raises(BuildError, match=f"fit kernel {RELEASE}: /b/a.c:1:2: error:") as caught:
        bench.compile()
    assert "version" in caught.value.hint
    assert bench.heard.errors == (bench.fake / "log").read_text().splitlines()
    assert (bench.out / ".recipe/build.sh").exists()


def test_a_failure_that_says_nothing_points_at_the_log(bench: Bench) -> None:
    bench.make_does("all is well", status=7)
    with pytest.raises(BuildError, match="status 7") as caught:
        bench.compile()
    assert "log" in caught.value.hint
    assert bench.heard.errors == ["all is well"]


def test_the_profile_may_know_the_cause(bench: Bench) -> None:
    bench.make_does("vendor says no", status=1)
    with pytest.raises(BuildError, match="too old: vendor says no") as caught:
        bench.compile(causes=(Cause("says no", "too old", "take a newer one"),))
    assert caught.value.hint == "take a newer one"


@pytest.mark.parametrize(("status", "oom"), [(2, True), (0, True), (137, False)])
def test_a_build_killed_for_memory_says_which_setting_helps(
    bench: Bench, status: int, oom: bool
) -> None:
    bench.leaves()
    bench.make_does("a.c:1:1: error: x", status=status)
    bench.container.oom = oom
    with pytest.raises(BuildError, match="out of memory") as caught:
        bench.compile()
    assert "build.memory_max" in caught.value.hint


def test_a_module_that_was_not_built_is_an_error(bench: Bench) -> None:
    with pytest.raises(BuildError, match="make built no module big-one"):
        bench.compile()


def test_two_files_for_one_module_are_an_error(bench: Bench) -> None:
    bench.leaves("big-one.ko")
    bench.leaves("big_one.ko")
    with pytest.raises(BuildError, match="more than one module big-one"):
        bench.compile()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"modinfo": {**MODINFO, "vermagic": "6.1.0-8-test SMP "}}, "vermagic"),
        ({"modinfo": {**MODINFO, "name": "other"}}, "is the module other"),
        ({"modinfo": {**MODINFO, "srcversion": ""}}, "has no srcversion"),
        ({"machine": AARCH64}, "is for aarch64"),
        ({"sections": {".debug_info": b""}}, "debug information"),
        ({"sections": {".rela.debug_line": b""}}, "debug information"),
        ({"undefined": ["_printk", "gone"]}, "nothing exports gone"),
        ({"versions": {**VERSIONS, "_printk": 1}}, "another version of _printk"),
    ],
)
def test_what_the_kernel_would_refuse_is_not_built(
    bench: Bench, changes: dict[str, Any], problem: str
) -> None:
    bench.leaves(**changes)
    with pytest.raises(BuildError, match=f"big-one: .*{problem}"):
        bench.compile()


def test_no_srcversion_where_nobody_wants_one(bench: Bench) -> None:
    (bench.headers.path / "build/.config").write_text("CONFIG_MODULES=y\n")
    bench.leaves(modinfo={key: MODINFO[key] for key in MODINFO if key != "srcversion"})
    assert bench.compile()[0].srcversion is None


def test_every_problem_at_once(bench: Bench) -> None:
    bench.leaves("a.ko", modinfo={**MODINFO, "name": "a"}, undefined=["gone"])
    bench.leaves("b.ko", modinfo={**MODINFO, "name": "b"}, machine=AARCH64)
    (bench.fake / "c.ko").write_bytes(b"")
    with pytest.raises(BuildError) as caught:
        bench.compile(modules=("a", "b", "c"))
    for part in (
        "a: nothing exports gone",
        "b: is for aarch64",
        "c: too short for an ELF file",
    ):
        assert part in caught.value.message


def test_a_link_is_not_followed_out_of_the_container(bench: Bench) -> None:
    (bench.root / "elsewhere.ko").write_bytes(bench.leaves())
    bench.tool("strip", '#!/bin/sh\nln -s ../elsewhere.ko "$3"\n')
    with pytest.raises(BuildError, match="big-one: is no regular file"):
        bench.compile()


def test_modules_are_ours_and_nobody_else_may_write_them(bench: Bench) -> None:
    bench.leaves()
    bench.tool("strip", '#!/bin/sh\ncp "$4" "$3" && chmod 777 "$3"\n')
    bench.compile()
    assert (bench.out / "big-one.ko").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("missing", ["Module.symvers", "include/generated/utsrelease.h"])
def test_incomplete_headers_are_refused_before_compiling(bench: Bench, missing: str) -> None:
    (bench.headers.path / "build" / missing).unlink()
    with pytest.raises(ToolchainError, match=missing):
        bench.compile()
    assert not bench.log.exists()


def test_headers_of_another_kernel_are_refused_before_compiling(bench: Bench) -> None:
    with pytest.raises(ToolchainError, match=f"are those of {RELEASE}"):
        bench.compile(release="6.1.0-10-test")


def test_a_full_disk_under_the_log_is_not_lost(bench: Bench) -> None:
    bench.leaves()
    bench.make_does("a line")
    bench.log = Path("/dev/full")
    with pytest.raises(BuildError, match="No space left on device") as caught:
        bench.compile()
    assert "space" in caught.value.hint


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        ({"f_blocks": 1 << 20, "f_bavail": (1 << 16) - 1}, "2 % or 256 MiB of the disk free"),
        ({"f_blocks": 1 << 30, "f_bavail": (1 << 30) // 51}, "2 % or 256 MiB of the disk free"),
        ({"f_files": 1000, "f_favail": 19}, "2 % of the disk's inodes free"),
        ({"f_blocks": 1 << 20, "f_bavail": 1 << 16, "f_files": 0, "f_favail": 0}, None),
        ({"f_files": 1000, "f_favail": 20}, None),
    ],
)
def test_a_build_leaves_some_of_the_disk(
    bench: Bench, disk: dict[str, int], why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = {"f_frsize": 4096, "f_blocks": 1 << 30, "f_bavail": 1 << 29, "f_files": 0} | disk
    bench.leaves()
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**room))
    if why is None:
        assert bench.compile()
    else:
        bench.tool("make", "#!/bin/sh\nexec sleep 60\n")
        with pytest.raises(BuildError, match=f"stopped: it left less than {why}") as caught:
            bench.compile()
        assert "free some space" in caught.value.hint


def test_old_scripts_in_the_results_are_replaced(bench: Bench) -> None:
    bench.leaves()
    (bench.out / ".recipe").mkdir()
    (bench.out / ".recipe/build.sh").write_text("exit 9\n")
    assert [module.name for module in bench.compile()] == ["big-one"]
