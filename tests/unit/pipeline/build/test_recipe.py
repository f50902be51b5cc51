"""All that makes a build's bits is in its key, by digest, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from modulus.core.build import script
from modulus.core.build.recipe import Recipe
from modulus.core.build.script import payload_names, recipe_digest
from modulus.core.profile.profile import (
    RECIPE_FILES,
    BuildFile,
    Flags,
    Make,
    Patch,
    Profile,
    Remake,
)
from modulus.core.version import Range
from modulus.host.build import compile as build
from modulus.host.build.compile import digest_of

RECIPE = Recipe(
    modules=("big-one",),
    release="6.1.0-9-amd64",
    arch="x86_64",
    cc="gcc-12",
    jobs=3,
    targets=("modules",),
    variables={"KCFLAGS": "-g0"},
    patches=(Path("/etc/modulus/profiles/fix.patch"),),
    batch=True,
)


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the payload, to be changed."""
    folder = tmp_path / "payload"
    folder.mkdir()
    for file in build._PAYLOAD.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(build, "_PAYLOAD", folder)
    return folder


@pytest.mark.parametrize("name", [name for name in RECIPE_FILES if name != script.NAME])
def test_a_byte_of_a_payload_file_is_another_recipe(payload: Path, name: str) -> None:
    before = digest_of(RECIPE, contained=True)
    with open(payload / name, "a") as file:
        file.write("\n")
    assert digest_of(RECIPE, contained=True) != before


def test_payload_counts_only_where_it_is_used(payload: Path) -> None:
    alone = replace(RECIPE, batch=False)
    own_files = replace(alone, files=(BuildFile("a.mk", path="/p/a.mk"),))
    assert payload_names(alone) == ()
    assert payload_names(own_files) == payload_names(RECIPE)
    before = digest_of(alone, contained=True)
    (payload / "forkcc.c").write_text("")
    assert digest_of(alone, contained=True) == before


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("again", [False, True])
def test_a_byte_of_the_script_is_another_recipe(
    monkeypatch: pytest.MonkeyPatch, where: str, again: bool
) -> None:
    before = recipe_digest(RECIPE, {}, contained=True)
    written = script.build_script

    def changed(*of: Any, **values: Any) -> str:
        text = written(*of, **values)
        if values["again"] != again:
            return text
        return f" {text}" if where == "first" else f"{text} "

    monkeypatch.setattr(script, "build_script", changed)
    assert recipe_digest(RECIPE, {}, contained=True) != before


@pytest.mark.parametrize(
    "change",
    [
        {"modules": ("big-one", "b")},
        {"cc": "gcc-14"},
        {"targets": ("all",)},
        {"variables": {"KCFLAGS": "-g1"}},
        {"patches": ()},
        {"files": (BuildFile("a.mk", "Kbuild", path="/p/a.mk"),)},
        {"batch": False},
    ],
)
def test_another_command_line_is_another_recipe(change: dict[str, Any]) -> None:
    other = replace(RECIPE, **change)
    assert digest_of(other, contained=True) != digest_of(RECIPE, contained=True)


@pytest.mark.parametrize(
    "change",
    [
        {"jobs": 64},
        {"variables": {"KCFLAGS": "-g0"}},
        {"patches": (Path("/usr/share/modulus/profiles/fix.patch"),)},
        {"release": "6.1.0-10-amd64"},  # The key has it by itself.
    ],
)
def test_what_changes_no_bit_changes_no_recipe(change: dict[str, Any]) -> None:
    other = replace(RECIPE, **change)
    assert digest_of(other, contained=True) == digest_of(RECIPE, contained=True)


def test_jobs_that_make_is_given_by_name_change_no_recipe() -> None:
    few, many = (replace(RECIPE, jobs=jobs, variables={"NV_JOBS": "{jobs}"}) for jobs in (1, 8))
    assert digest_of(few, contained=True) == digest_of(many, contained=True)


def test_a_build_on_the_host_itself_is_another_recipe() -> None:
    assert digest_of(RECIPE, contained=False) != digest_of(RECIPE, contained=True)


NEWER = Range.parse(">=6.12")
PROFILE = Profile(
    name="driver",
    sources=(),
    flavours={},
    build=("m",),
    make=Make(("modules",), {"A": "1"}),
    load=(),
    patches=(Patch("a.patch", Range.parse("<6.12"), sha256="a" * 64),),
    files=(BuildFile("a.mk", "Kbuild", sha256="c" * 64),),
    flags=(Flags({"A": "2"}, Range.parse("<6.12")),),
    remake=Remake(("KERNELRELEASE",)),
)


@dataclass(frozen=True)
class _Folders:
    def folders(self, version: str) -> tuple[str, ...]:
        return (f"kernel-{version}",)


def section(profile: Profile) -> dict[str, Any]:
    profile = replace(profile, flavours={"open": _Folders()})  # type: ignore[dict-item] # all it is asked
    return profile.build_section("open", "6.1.0-9-amd64", "1.0")


Change = Callable[[Profile], Profile]


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, build=("n",)),
        lambda p: replace(p, make=Make(("all",), {"A": "1"})),
        lambda p: replace(p, make=Make(("modules",), {"A": "3"})),
        lambda p: replace(p, patches=(replace(p.patches[0], sha256="b" * 64),)),
        lambda p: replace(p, files=(replace(p.files[0], sha256="b" * 64),)),
        lambda p: replace(p, files=(replace(p.files[0], file="b.mk"),)),
        lambda p: replace(p, files=(replace(p.files[0], append_to="Makefile"),)),
        lambda p: replace(p, flags=(Flags({"A": "3"}, p.flags[0].kernel),)),
        lambda p: replace(p, remake=Remake(("other",))),
    ],
)
def test_what_a_profile_says_of_this_build_counts(change: Change) -> None:
    assert section(change(PROFILE)) != section(PROFILE)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, patches=(*p.patches, Patch("b", NEWER, sha256="b"))),
        lambda p: replace(
            p, patches=(*p.patches, Patch("b", driver=Range.parse(">=2"), sha256="b"))
        ),
        lambda p: replace(p, files=(*p.files, BuildFile("b", driver=Range.parse(">=2")))),
        lambda p: replace(p, flags=(*p.flags, Flags({"A": "3"}, NEWER))),
        lambda p: replace(p, load=("m",), blacklist=("rival",)),
    ],
)
def test_what_it_says_of_others_does_not(change: Change) -> None:
    assert section(change(PROFILE)) == section(PROFILE)
