"""Builds that fail, and modules that the kernel would refuse."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modulus.core.profile.build_causes import Cause
from modulus.errors import BuildError, ToolchainError
from modulus.host.process.run import run
from tests.support.elfmaker import AARCH64
from tests.unit.host.build.conftest import MODINFO, RELEASE, VERSIONS, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """``run`` is from here: it has the tests of this file run with each version of sh."""
    return Bench(tmp_path, run)


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
