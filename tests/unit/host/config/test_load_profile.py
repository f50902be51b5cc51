"""Where profiles are found, and what lies beside them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from modulus.errors import ConfigError
from modulus.host.config.load import load_profile, profile_names
from tests.unit.host.config.conftest import write

PROFILE = """
name: {name}
sources: [{{url: "file:///x-{{version}}.tar", format: tar}}]
flavours: {{open: {{dir: src}}}}
build: [m]
load: [m]
make: {{targets: modules}}
"""


def test_what_ships_is_found_from_any_root(tmp_path: Path) -> None:
    assert {"nvidia", "v4l2loopback"} <= set(profile_names(tmp_path))
    assert load_profile(tmp_path, "v4l2loopback").name == "v4l2loopback"


def test_etc_wins_over_usr_share_and_that_over_what_ships(tmp_path: Path) -> None:
    for place in ("usr/share", "etc"):
        profile = PROFILE.format(name="v4l2loopback") + f"blacklist: [{place[:3]}]\n"
        write(tmp_path, f"{place}/modulus/profiles/v4l2loopback.yaml", profile)
        assert load_profile(tmp_path, "v4l2loopback").blacklist == (place[:3],)


@pytest.mark.parametrize("name", ["nvida", "../x", "", ".hidden"])
def test_an_unknown_profile(tmp_path: Path, name: str) -> None:
    write(tmp_path, "etc/modulus/x.yaml", PROFILE.format(name="x"))
    write(tmp_path, "etc/modulus/profiles/.hidden.yaml", PROFILE.format(name="x"))
    with pytest.raises(ConfigError, match="there is no profile") as raised:
        load_profile(tmp_path, name)
    assert ("did you mean nvidia?" in raised.value.message) == (name == "nvida")
    assert "nvidia, v4l2loopback" in raised.value.hint


def test_problems_of_a_profile_name_its_file(tmp_path: Path) -> None:
    file = write(tmp_path, "etc/modulus/profiles/one.yaml", "name: one\nbiuld: [m]\nload: m\n")
    with pytest.raises(ConfigError) as raised:
        load_profile(tmp_path, "one")
    assert raised.value.message.splitlines()[:2] == [
        f"{file}: biuld: unknown key, did you mean build?",
        f"{file}: load: must be a list, such as [a, b], not 'm'",
    ]
    file.write_text("a: b: c")
    with pytest.raises(ConfigError, match=r"one\.yaml: line 1: "):
        load_profile(tmp_path, "one")


def test_patches_lie_beside_the_profile(tmp_path: Path) -> None:
    profile = PROFILE.format(name="one") + "patches: [{file: one/a.patch, kernel: '>=6'}]\n"
    write(tmp_path, "etc/modulus/profiles/one.yaml", profile)
    with pytest.raises(ConfigError, match=r"patches\[0\]\.file: .*a\.patch cannot be read"):
        load_profile(tmp_path, "one")
    patch = write(tmp_path, "etc/modulus/profiles/one/a.patch", "")
    found = load_profile(tmp_path, "one")
    assert found.patches_for("6.1", "1") == (patch,)
    before = found.build_section("open", "6.1", "1")
    patch.write_text("other")
    after = load_profile(tmp_path, "one").build_section("open", "6.1", "1")
    assert before != after


def test_files_of_the_build_lie_beside_the_profile(tmp_path: Path) -> None:
    profile = PROFILE.format(name="one") + "files: [{file: a.sh}]\n"
    write(tmp_path, "etc/modulus/profiles/one.yaml", profile)
    with pytest.raises(ConfigError, match=r"files\[0\]\.file: .*a\.sh cannot be read"):
        load_profile(tmp_path, "one")
    file = write(tmp_path, "etc/modulus/profiles/a.sh", "text")
    (found,) = load_profile(tmp_path, "one").files_for("1")
    assert (found.path, found.sha256) == (str(file), hashlib.sha256(b"text").hexdigest())


def test_an_installed_package_takes_no_profiles_from_beside_it(tmp_path: Path) -> None:
    source = Path(__file__).parents[4] / "modulus"
    for path in source.rglob("*.py"):
        write(tmp_path, f"lib/modulus/{path.relative_to(source)}", path.read_bytes())
    write(tmp_path, "lib/profiles/foreign.yaml", PROFILE.format(name="foreign"))
    script = (
        "import pathlib; from modulus.host.config.load import profile_names;"
        "print(profile_names(pathlib.Path('/x')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(tmp_path / "lib")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "()\n"
