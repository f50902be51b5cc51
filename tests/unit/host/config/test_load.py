"""Settings of every place: which wins, and every problem at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from modulus.core.config.settings import Settings
from modulus.errors import ConfigError
from modulus.host.config.load import load_settings
from tests.unit.host.config.conftest import write

JOBS = "must be a number from 1 to 4096, or auto"


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
