from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.config.schema import Problems
from modulus.core.config.settings import Settings
from modulus.errors import ConfigError
from modulus.host.config.load import load_profile, load_settings, profile_names
from modulus.host.config.yaml import parse_yaml

JOBS = "must be a number from 1 to 4096, or auto"
PROFILE = """
name: {name}
sources: [{{url: "file:///x-{{version}}.tar", format: tar}}]
flavours: {{open: {{dir: src}}}}
build: [m]
load: [m]
make: {{targets: modules}}
"""


def write(root: Path, path: str, text: str | bytes) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def load(
    root: Path,
    *assignments: str,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    driver: str | None = None,
) -> Settings:
    return load_settings(
        root, config=config, environ=environ or {}, assignments=assignments, driver=driver
    )


def problems(
    root: Path,
    *assignments: str,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Sequence[str]:
    with pytest.raises(ConfigError) as raised:
        load(root, *assignments, config=config, environ=environ)
    assert raised.value.code == 10 and "\n" not in raised.value.hint
    return [line.replace(f"{root}/", "") for line in raised.value.message.splitlines()]


def test_nothing_anywhere_gives_the_defaults(tmp_path: Path) -> None:
    assert set(load(tmp_path).origins.values()) == {"default"}


def test_each_place_wins_over_the_one_before(tmp_path: Path) -> None:
    def jobs(*assignments: str, **environ: str) -> tuple[int | None, str]:
        found = load(tmp_path, *assignments, environ=environ)
        return found.build.jobs, found.origins["build.jobs"].replace(f"{tmp_path}/", "")

    for number, path in enumerate(
        (
            "usr/share/modulus/modulus.yaml",
            "usr/share/modulus/modulus.d/50-x.yaml",
            "etc/modulus/modulus.yaml",
            "etc/modulus/modulus.d/10-a.yaml",
            "etc/modulus/modulus.d/20-b.yaml",
        ),
        2,
    ):
        write(tmp_path, path, f"build: {{jobs: {number}}}")
        assert jobs() == (number, path)
    assert jobs(MODULUS_BUILD__JOBS="20") == (20, "MODULUS_BUILD__JOBS")
    assert jobs("build.jobs=30", MODULUS_BUILD__JOBS="20") == (30, "--set")
    assert jobs("build.jobs=30", "build.jobs=31") == (31, "--set")


def test_other_files_do_not_count(tmp_path: Path) -> None:
    for name in (".hidden.yaml", "old.yaml~", "note.txt", "x.yml"):
        write(tmp_path, f"etc/modulus/modulus.d/{name}", "build: {jobs: 9}")
    assert load(tmp_path).build.jobs is None


def test_a_config_file_replaces_what_is_under_etc(tmp_path: Path) -> None:
    write(tmp_path, "usr/share/modulus/modulus.yaml", "offline: true")
    write(tmp_path, "etc/modulus/modulus.yaml", "require_all_gpus: true\nbroken: 1")
    write(tmp_path, "etc/modulus/modulus.d/x.yaml", "numa_fix: true")
    mine = write(tmp_path, "mine.yaml", "boot_hold: 1h")
    found = load(tmp_path, config=mine)
    assert (found.offline, found.require_all_gpus, found.numa_fix, found.boot_hold) == (
        True,
        False,
        False,
        3600,
    )
    assert found.origins["boot_hold"] == str(mine)
    assert problems(tmp_path, config=tmp_path / "none.yaml") == [
        "none.yaml: cannot be read: No such file or directory"
    ]


def test_drivers_of_a_layer_win_over_its_general_values(tmp_path: Path) -> None:
    write(tmp_path, "etc/modulus/modulus.yaml", "drivers: {one: {flavour: open}}")
    write(tmp_path, "etc/modulus/modulus.d/x.yaml", "flavour: proprietary")
    assert load(tmp_path, driver="one").flavour == "open"
    assert load(tmp_path, driver="two").flavour == "proprietary"
    assert load(tmp_path, "flavour=proprietary", driver="one").flavour == "proprietary"
    environ = {"MODULUS_DRIVERS__ONE__FLAVOUR": "auto"}
    assert load(tmp_path, driver="one", environ=environ).flavour == "auto"


@pytest.mark.parametrize(
    ("name", "value", "key", "found"),
    [
        ("MODULUS_OFFLINE", "yes", "offline", True),
        ("MODULUS_PROXY", "http://p.example.com:1", "proxy", "http://p.example.com:1"),
        ("MODULUS_PROXY", "", "proxy", None),
        ("MODULUS_COMPONENTS", "[compute, video]", "components", ("compute", "video")),
        ("MODULUS_MODULE_OPTIONS", "{m: {X: 1}}", "module_options", {"m": {"X": "1"}}),
        ("MODULUS_MODULE_OPTIONS__m__X", "2", "module_options", {"m": {"X": "2"}}),
        ("MODULUS_MIRRORS", "https://e.example.com/{version}", "mirrors", None),
    ],
)
def test_the_environment(
    tmp_path: Path, name: str, value: str, key: str, found: object
) -> None:
    settings = load(tmp_path, environ={name: value, "PATH": "/bin", "XMODULUS_Y": "1"})
    assert found == (None if key == "mirrors" else getattr(settings, key))
    assert name in settings.origins.values()


def test_every_problem_of_every_source_at_once(tmp_path: Path) -> None:
    write(tmp_path, "usr/share/modulus/modulus.yaml", "offline: maybe\n")
    write(tmp_path, "etc/modulus/modulus.yaml", "build:\n  jbos: 4\n  jobs: x\nflavor: open\n")
    write(tmp_path, "etc/modulus/modulus.d/1.yaml", "a: [\n")
    write(
        tmp_path,
        "etc/modulus/modulus.d/2.yaml",
        "numa_fix: true\nnuma_fix: false\nmirrors: {}\n",
    )
    write(tmp_path, "etc/modulus/modulus.d/3.yaml", "- a\n")
    write(tmp_path, "etc/modulus/modulus.d/4.yaml", b"proxy: http://\xff\n")
    write(tmp_path, "etc/modulus/modulus.d/5.yaml", "a: 1\nb: \0\n")
    (tmp_path / "etc/modulus/modulus.d/6.yaml").mkdir()
    os.mkfifo(tmp_path / "etc/modulus/modulus.d/7.yaml")
    (tmp_path / "etc/modulus/modulus.d/8.yaml").symlink_to("nowhere")
    (tmp_path / "etc/modulus/modulus.d/9.yaml").symlink_to("9.yaml")
    environ = {"MODULUS_BUILD__JOBS": "x", "MODULUS_INSTANCE": "y", "MODULUS_": "z"}
    assert problems(tmp_path, "numa_fix", "numa_fxi=true", "stores=[", environ=environ) == [
        "usr/share/modulus/modulus.yaml: offline: must be true or false, not 'maybe'",
        "etc/modulus/modulus.yaml: build.jbos: unknown key, did you mean build.jobs?",
        f"etc/modulus/modulus.yaml: build.jobs: {JOBS}, not 'x'",
        "etc/modulus/modulus.yaml: flavor: unknown key, did you mean flavour?",
        "etc/modulus/modulus.d/1.yaml: line 2: did not find expected node content",
        "etc/modulus/modulus.d/2.yaml: line 2: numa_fix is there twice",
        "etc/modulus/modulus.d/3.yaml: must hold KEY: VALUE lines",
        "etc/modulus/modulus.d/4.yaml: line 1: is not UTF-8 text",
        "etc/modulus/modulus.d/5.yaml: line 2: a character that text does not have",
        "etc/modulus/modulus.d/6.yaml: cannot be read: Is a directory",
        "etc/modulus/modulus.d/7.yaml: cannot be read: not a regular file",
        "etc/modulus/modulus.d/8.yaml: cannot be read: No such file or directory",
        "etc/modulus/modulus.d/9.yaml: cannot be read: Too many levels of symbolic links",
        "MODULUS_: unknown key",
        f"MODULUS_BUILD__JOBS: build.jobs: {JOBS}, not 'x'",
        "MODULUS_INSTANCE: instance: unknown key",
        "--set: numa_fix: must be KEY=VALUE, such as build.jobs=4",
        "--set: numa_fxi: unknown key, did you mean numa_fix?",
        "--set: stores: line 2: did not find expected node content",
    ]


def test_old_names_are_accepted_and_said(tmp_path: Path) -> None:
    file = write(tmp_path, "etc/modulus/modulus.yaml", "nouveau_unbind: true")
    found = load(tmp_path)
    assert (found.rivals_unbind, found.origins["rivals_unbind"]) == (True, str(file))
    (said,) = found.warnings
    assert said.startswith(f"{file}: nouveau_unbind is called rivals_unbind now")
    environ = {"MODULUS_DRIVERS__ONE__NOUVEAU_UNBIND": "false"}
    found = load(tmp_path, "nouveau_unbind=true", driver="one", environ=environ)
    assert (found.rivals_unbind, len(found.warnings)) == (True, 3)
    name = "etc/modulus/modulus.yaml"
    write(tmp_path, name, "nouveau_unbind: 1\nrivals_unbind: true\n")
    assert problems(tmp_path) == [
        f"{name}: nouveau_unbind: is called rivals_unbind now, which is there too",
        f"{name}: rivals_unbind: must be true or false, not 1",
    ]
    write(tmp_path, name, "drivers: {one: {nouveau_unbind: true, rivals_unbind: true}}")
    assert problems(tmp_path) == [
        f"{name}: drivers.one.nouveau_unbind: is called rivals_unbind now, which is there too"
    ]


def test_links_are_followed_within_the_root(tmp_path: Path) -> None:
    write(tmp_path, "run/other.yaml", "offline: true")
    (tmp_path / "etc/modulus").mkdir(parents=True)
    (tmp_path / "etc/modulus/modulus.yaml").symlink_to("/run/other.yaml")
    assert load(tmp_path).offline


def test_comments_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    write(tmp_path, "etc/modulus/modulus.yaml", b"\xef\xbb\xbf# nothing yet\nbuild:\n")
    assert load(tmp_path).build.jobs is None


# YAML.


def parse(text: str) -> tuple[object, list[str]]:
    lines: list[str] = []
    return parse_yaml(text, Problems("", lines)), lines


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("550.40: a\n007: b\nNO: c\n~: d\n", {"550.40": "a", "007": "b", "NO": "c", "~": "d"}),
        ("a: 2024-01-02", {"a": "2024-01-02"}),
        ("a: 0x10de\nb: 1.5\nc: [x]\n", {"a": 0x10DE, "b": 1.5, "c": ["x"]}),
        ("a: no\nb: ~\nc:\n", {"a": False, "b": None, "c": None}),
        ("a: &x [1]\nb: *x\n", {"a": [1], "b": [1]}),
    ],
)  # fmt: skip
def test_yaml(text: str, value: object) -> None:
    assert parse(text) == (value, [])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", "line 2: c is there twice"),
        ("[a]: 1", "line 1: a key must be text"),
        ("a: !!python/object/apply:os.abort []", "line 1: could not determine"),
        ("a: !!timestamp x", "line 1: could not determine a constructor for the tag"),
        ("a: !!int x", "is not YAML, or has a value that is none"),
        ("a: !!bool x", "is not YAML, or has a value that is none"),
        ("a: 1\n--- \nb: 2", "line 2: but found another document"),
        ("a: *b", "line 1: found undefined alias"),
        ("a: 1\n\tb: 2", "line 2: "),
        ("a: \x07", "line 1: a character that text does not have"),
        ("a: ééé\n\n\n\x07\n\n\n\n", "line 4: a character that text does not have"),
        ("- " * 100_000, "is nested more than 50 deep"),
        ("{a: " * 60 + "}" * 60, "is nested more than 50 deep"),
        ("[" * 60, "is nested more than 50 deep"),
        (f"a: [{'1,' * 100_000}]", "has more than 20000 values"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{b}: &{b} [{f'*{a},' * 9}]\n" for a, b in pairwise("abcdefghij")),
            "has more than 20000 values",
        ),
        ("a: &a [*a]", "a is part of itself"),
        ("a: &a x\nb: &a {c: [*a]}", "a is part of itself"),
        (f"a: {'9' * 500_000}", "line 1: a number that is too large"),
        (f"a: 0x{'f' * 500_000}", "line 1: a number that is too large"),
        (f"a: 1{':59' * 10_000}", "line 1: a number that is too large"),
        ("b: 1\na: .inf", "line 2: a number that is none"),
        ("a: .nan", "line 1: a number that is none"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text: str, line: str) -> None:
    value, lines = parse(text)
    assert value is None
    assert len(lines) == 1 and lines[0].startswith(line)


def test_yaml_without_an_end_to_its_depth_is_refused() -> None:
    _, (line,) = parse("[" * 100_000)
    # A newer PyYAML looks so far ahead that its own limit comes first.
    assert line in ("is nested more than 50 deep", "line 1: exceeded maximum nesting depth")


def test_every_repeated_key_is_told() -> None:
    assert parse("a: 1\na: 2\nb: {c: 1, c: 1}\n")[1] == [
        "line 2: a is there twice",
        "line 3: c is there twice",
    ]


@given(st.one_of(st.text(), st.text("abc:-[]{}&*!#|>'\"%@`,? \n\t0123456789.~<="), st.binary()))
def test_any_text_is_plain_values_or_problems(text: str | bytes) -> None:
    value, lines = parse(text if isinstance(text, str) else text.decode("latin-1"))
    assert value is None or not lines
    assert isinstance(value, (type(None), bool, int, float, str, list, dict))
    assert all("\n" not in line for line in lines)


# Profiles.


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
