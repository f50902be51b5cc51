# ruff: noqa: E501
from __future__ import annotations

import copy
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.build.recipe import Recipe, make_argv
from modulus.core.config.fields import COMPONENTS
from modulus.core.config.schema_types import Problems
from modulus.core.kernel.release import KernelConfig, check
from modulus.core.package.vendor_manifest import TYPES
from modulus.core.pci import PciMatch
from modulus.core.profile.fields import PLACEHOLDERS
from modulus.core.profile.profile import RECIPE_FILES, Make, PackageSource, Patch, Profile
from modulus.core.profile.schema import SCHEMA, parse_profile
from modulus.core.version import Range
from modulus.errors import UnsupportedError
from modulus.host.config.load import load_profile

MINIMAL: dict[str, Any] = {
    "name": "one",
    "sources": [{"url": "https://example.com/{name}-{version}.tar.gz", "format": "tar"}],
    "flavours": {"open": {"dir": "one-{version}"}},
    "build": ["one"],
    "load": ["one"],
    "make": {"targets": "modules"},
}


def changed(**keys: Any) -> dict[str, Any]:
    return copy.deepcopy(MINIMAL) | keys


def parse(value: object) -> tuple[Profile | None, list[str]]:
    lines: list[str] = []
    return parse_profile(value, "one", Problems("", lines)), lines


def parsed(**keys: Any) -> Profile:
    profile, lines = parse(changed(**keys))
    assert profile is not None, lines
    return profile


def test_the_least_a_profile_needs() -> None:
    profile = parsed()
    assert profile.sources == (
        PackageSource("https://example.com/{name}-{version}.tar.gz", "tar"),
    )
    assert profile.flavours["open"].folders("1.2") == ("one-1.2",)
    assert (profile.build, profile.load, profile.make) == (
        ("one",),
        ("one",),
        Make(("modules",)),
    )
    assert (profile.pci, profile.options, profile.installer) == ((), {}, None)


def test_what_is_missing_is_told_at_once() -> None:
    profile, lines = parse({})
    assert profile is None
    assert lines == [f"{key}: is missing" for key in SCHEMA.required]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"name": "two"}, "name: must be one, as the file is called, not 'two'"),
        ({"nmae": 1}, "nmae: unknown key, did you mean name?"),
        ({"nodes": {}}, "nodes: must be a list, such as [a, b], not a mapping"),
        ({"sources": [{"url": "https://x/y"}]}, "sources[0].format: is missing"),
        ({"sources": [{"url": "https://x/{release}", "format": "run"}]}, "sources[0].url: must be a URL (https:, http:, file:, apt:) in which only {arch} {version} {name} stand in braces, not 'https://x/{release}'"),
        ({"sha256": {"1.0": "ab"}}, "sha256.1.0: must be a sha256 of 64 hexadecimal digits, not 'ab'"),
        ({"pci": [{"vendor": 0x10000, "class": 0x300}]}, "pci[0].vendor: must be a number of 16 bits, such as 0x10de, not 65536"),
        ({"flavours": {"open": {}}}, "flavours.open.dir: is missing"),
        ({"flavours": {}}, "flavours: must not be empty"),
        ({"flavours": {"open": {"dir": "../x"}}}, "flavours.open.dir[0]: must be a path within the package; {version} may stand in it, not '../x'"),
        ({"flavours": {"open": {"dir": "/x"}}}, "flavours.open.dir[0]: must be a path within the package; {version} may stand in it, not '/x'"),
        ({"flavours": {"open": {"dir": "x/{name}"}}}, "flavours.open.dir[0]: must be a path within the package; {version} may stand in it, not 'x/{name}'"),
        ({"build": []}, "build: must not be empty"),
        ({"build": ["one", "a b"]}, "build[1]: must be the name of a kernel module, not 'a b'"),
        ({"load": ["other"]}, "load: other is not among the modules to build"),
        ({"make": {"targets": ["-C"]}}, "make.targets[0]: must be a target, not '-C'"),
        ({"make": {"targets": "m", "variables": {"A": "{nothing}"}}}, "make.variables.A: must be text in which only {source} {build} {work} {cc} {arch} {jobs} {modules} stand in braces, not '{nothing}'"),
        ({"make": {"targets": "m", "variables": {"A": "a\nb"}}}, r"make.variables.A: must be text in which only {source} {build} {work} {cc} {arch} {jobs} {modules} stand in braces, not 'a\nb'"),
        ({"make": {"targets": "m", "variables": {"A=B": "x"}}}, "make.variables.A=B: must be the name of a variable, not 'A=B'"),
        ({"flags": [{"kernel": "6.8", "make": {}}]}, "flags[0].kernel: must be a range of versions, such as >=6.8,<6.13, not '6.8'"),
        ({"patches": [{"file": "../x.patch"}]}, "patches[0].file: must be a path within its folder, not '../x.patch'"),
        ({"files": [{"file": "a/x"}, {"file": "b/x"}]}, "files[1].file: another file of the build is called x"),
        ({"files": [{"file": "build.sh"}]}, "files[0].file: another file of the build is called build.sh"),
        ({"patches": [{"file": "x.sh"}]}, "patches[0].file: must be called something.patch"),
        ({"work": [{"done": "("}]}, "work[0].done: must be a regular expression, not '('"),
        ({"work": [{"done": "x", "count": "(a)(b)"}]}, "work[0].count: must be a regular expression with at most one group, not '(a)(b)'"),
        ({"causes": [{"pattern": "x", "cause": "{x}", "remedy": "y"}]}, "causes[0].cause: must be a sentence in which only {release} stands in braces, not '{x}'"),
        ({"components": {"games": []}}, "components.games: must be one of compute, utility, graphics, video, display, not 'games'"),
        ({"components": {"video": [{"types": "A_LIB"}]}}, "components.video: A_LIB has no entry in installer.folders"),
        ({"installer": {"manifest": "m", "folders": {"A": "etc/x"}}}, "installer.folders.A: must be a path that begins with bin, lib, firmware, share; {version} and {path} may stand in it, not 'etc/x'"),
        ({"installer": {"manifest": "m", "folders": {"A": "lib/../.."}}}, "installer.folders.A: must be a path that begins with bin, lib, firmware, share; {version} and {path} may stand in it, not 'lib/../..'"),
        ({"gpu_list": {"path": "l", "entries": "e", "id": "i", "name": "n", "features": "f", "legacy": "l", "flavours": {"closed": "x"}}}, "gpu_list.flavours: there is no flavour closed"),
        ({"flavour_rules": [{"why": "x"}]}, "flavour_rules[0]: needs a flavour, or else pci and instead"),
        ({"flavour_rules": [{"why": "x", "flavour": "closed"}]}, "flavour_rules[0].flavour: there is no flavour closed"),
        ({"flavour_rules": [{"why": "x", "flavour": "open", "pci": "0x1"}]}, "flavour_rules[0].pci[0]: must be a device id or a range of them, such as 0x2340-0x237f, not '0x1'"),
        ({"flavour_rules": [{"why": "x", "flavour": "open", "pci": 0x31a1}]}, "flavour_rules[0].pci: needs pci, which says whose ids these are"),
        ({"flavours": {"a": {"dir": "a"}, "b": {"dir": "b"}}}, "flavour_rules: the last must say which flavour any other version has"),
    ],
)  # fmt: skip
def test_problems(keys: dict[str, Any], line: str) -> None:
    profile, lines = parse(changed(**keys))
    assert profile is None
    assert lines == [line]


FLAGS = [
    {"kernel": ">=6.8", "make": {"KCFLAGS": "-Dnew"}},
    {"kernel": ">=6.12,<6.13", "make": {"KCFLAGS": "-Done", "EXTRA": "1"}},
]
VARIABLES = {"targets": "modules", "variables": {"KCFLAGS": "-g0"}}


@pytest.mark.parametrize(
    ("release", "variables"),
    [
        ("6.1.0-56-amd64", {"KCFLAGS": "-g0"}),
        ("6.8.0-rc1", {"KCFLAGS": "-g0 -Dnew"}),
        ("6.12.117+deb12-amd64", {"KCFLAGS": "-g0 -Dnew -Done", "EXTRA": "1"}),
    ],
)
def test_flags_are_added_for_their_kernels(release: str, variables: dict[str, str]) -> None:
    assert parsed(make=VARIABLES, flags=FLAGS).make_for(release).variables == variables


def test_patches_are_for_kernels_and_versions() -> None:
    profile = parsed(
        patches=[
            {"file": "one/a.patch", "kernel": ">=6.8"},
            {"file": "one/b.patch", "kernel": ">=6.8", "driver": "<2"},
        ]
    )
    assert profile.patches[1] == Patch("one/b.patch", Range.parse(">=6.8"), Range.parse("<2"))
    assert len(profile.patches_for("6.8", "1.9")) == 2
    assert len(profile.patches_for("6.8", "2.0")) == 1
    assert profile.patches_for("6.1", "1.9") == ()


def test_the_build_section_has_what_changes_bits_and_nothing_else() -> None:
    def section(release: str = "6.1", version: str = "1", **keys: Any) -> str:
        return json.dumps(
            parsed(**keys).build_section("open", release, version), sort_keys=True
        )

    same = section(make=VARIABLES)
    assert section(make=VARIABLES, flags=FLAGS) == same
    assert section(make=VARIABLES, load=[], blacklist=["x"], requires_config=["X"]) == same
    assert section(make=VARIABLES, files=[{"file": "a.sh", "driver": ">=2"}]) == same
    others = [
        section("6.8", make=VARIABLES, flags=FLAGS),
        section(make=VARIABLES | {"targets": "all"}),
        section(make=VARIABLES, build=["one", "two"]),
        section(make=VARIABLES, flavours={"open": {"dir": "src"}}),
        section(make=VARIABLES, patches=[{"file": "a.patch"}]),
        section(make=VARIABLES, files=[{"file": "a.sh"}]),
        section(make=VARIABLES, files=[{"file": "a.sh", "append_to": "Kbuild"}]),
        section(version="2", make=VARIABLES),
    ]
    assert len({same, *others}) == len(others) + 1


def test_placeholders_are_those_that_make_is_given() -> None:
    recipe = Recipe(
        modules=("a",), release="6.1", arch="x86_64", cc="gcc", jobs=1, targets=("modules",),
        variables={name: f"{{{name}}}" for name in PLACEHOLDERS},
    )  # fmt: skip
    assert not [word for word in make_argv(recipe, lambda target: target) if "{" in word]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(SCHEMA.fields)), JSON, max_size=4))
def test_any_value_gives_a_profile_or_problems(keys: dict[str, Any]) -> None:
    profile, lines = parse(changed(**keys))
    assert (profile is None) == bool(lines)


# What ships.

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[4] / "profiles").glob("*.yaml"))


@pytest.fixture(params=SHIPPED)
def shipped(request: pytest.FixtureRequest, tmp_path: Path) -> Profile:
    return load_profile(tmp_path, request.param)


def test_a_shipped_profile_can_be_built_everywhere(shipped: Profile) -> None:
    for release in ("5.10.0-1-amd64", "6.1.0-56-amd64", "6.12.117+deb12-amd64"):
        variables = shipped.make_for(release).variables
        assert "-g0" in variables["KCFLAGS"].split()
        assert variables["CONFIG_DEBUG_INFO_BTF_MODULES"] == ""
        assert variables["CC"] == "{cc}"
        assert not any("IGNORE" in name for name in variables)


def test_what_goes_where() -> None:
    profile = load_profile(Path("/nonexistent"), "nvidia")
    assert set(profile.components) == set(COMPONENTS)
    used = {
        kind for rules in profile.components.values() for rule in rules for kind in rule.types
    }
    assert profile.installer is not None
    assert set(profile.installer.folders) == used
    own = {"NVIDIA_MODPROBE"}
    # Types that only older manifests have.
    older = {"NVIFR_LIB", "NVIFR_LIB_SYMLINK", "TLS_SYMLINK"}
    assert used - set(TYPES) == own | older
    for rules in profile.components.values():
        assert "FIRMWARE" in rules[0].types


def test_nvidia() -> None:
    profile = load_profile(Path("/nonexistent"), "nvidia")
    assert len(profile.build) == 5
    assert profile.load == ("nvidia", "nvidia-uvm", "nvidia-modeset")
    assert PciMatch(0x10DE, 0x0302) in profile.pci
    assert profile.flavours["open"].folders("1") == ("kernel-open",)
    assert profile.flavours["proprietary"].folders("1") == ("kernel",)
    assert profile.refuses_config == ("PREEMPT_RT",)
    assert profile.make_for("6.1").variables["SYSOUT"] == "{build}"


def test_v4l2loopback() -> None:
    profile = load_profile(Path("/nonexistent"), "v4l2loopback")
    assert profile.sources[0].url == "apt:v4l2loopback-dkms"
    assert profile.flavours["open"].folders("0.12.7")[0] == "usr/src/v4l2loopback-0.12.7"
    old, new = (
        profile.make_for(release).variables["KCFLAGS"]
        for release in ("6.1.0-56-amd64", "6.12.117+deb12-amd64")
    )
    assert (old, new) == ("-g0", "-g0 -Dstrlcpy=strscpy")
    cloud = KernelConfig.parse("CONFIG_MODULES=y\n# CONFIG_VIDEO_DEV is not set\n")
    with pytest.raises(UnsupportedError, match="VIDEO_DEV"):
        check(cloud, "6.1", requires=profile.requires_config)


def test_no_profile_can_take_the_place_of_what_every_build_finds() -> None:
    payload = resources.files("modulus") / "payload"
    assert sorted(RECIPE_FILES) == sorted(
        ["build.sh", *(each.name for each in payload.iterdir())]
    )
