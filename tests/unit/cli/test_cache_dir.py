"""The cache in another place: every command, what may not hold it, and noexec."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from modulus.cli.parser import make_parser
from modulus.core.generation.generation import key_of
from tests.support.fakedriver import RELEASE, FakeNode, fake_node
from tests.support.mount import tmpfs
from tests.support.switching import active_name, command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

ELSEWHERE = "/srv/kept/cache"
USUAL = "var/cache/modulus"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """Its cache is elsewhere, with the builds of two versions."""
    for node in fake_node(tmp_path, monkeypatch):
        move(node)
        node.stock("2.0")
        yield node


def move(node: FakeNode, place: str = ELSEWHERE) -> None:
    """Has the cache be at ``place``."""
    old, node.cache = node.cache, node.root / place[1:]
    node.cache.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(old, node.cache)
    node.configure(cache_dir=place)


COMMANDS = (
    "plan gpu-1.0",
    "build gpu-1.0",
    "fits gpu-1.0",
    "up gpu-1.0",
    "up gpu-2.0",
    "verify",
    "status",
    "wait",
    "rollback",
    "render user-data gpu-1.0",
    "cache list",
    "cache verify",
    "cache extract KEY {out}",
    "cache reproduce --unproved",
    "cache gc --max-age 30d",
    "down gpu-1.0",
)


def test_every_command_is_tried() -> None:
    assert set(_names(make_parser())) == {
        " ".join(word for word in line.split() if word.isalpha() or word == "user-data")
        for line in (line.partition(" gpu")[0].partition(" KEY")[0] for line in COMMANDS)
    }


def _names(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    """The words that lead to each command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                found = [*_names(child, f"{before}{name} ")]
                yield from found or [f"{before}{name}"]


def test_every_command_uses_the_cache_that_the_settings_name(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: dict[str, Any] = {}
    for line in COMMANDS:
        key = key_of(active_name(node)) if "KEY" in line else ""
        words = line.replace("KEY", key or "").format(out=tmp_path / "out").split()
        if line.startswith("render"):
            assert node.run(*words) == 0
            said[line] = capsys.readouterr().out
            continue
        said[line] = command(node, capsys, *words)
        assert said[line]["code"] == 0, (line, said[line])
    assert said["plan gpu-1.0"]["hit"]
    (fit,) = said["fits gpu-1.0"]["fits"]
    assert fit["state"] == "builds"
    (built,) = said["build gpu-1.0"]["results"]
    assert Path(built["path"]).is_relative_to(node.cache)
    assert said["up gpu-1.0"]["hit"]
    entries = said["cache list"]["entries"]
    assert len(entries) == 2
    assert all(Path(entry["path"]).is_relative_to(node.cache) for entry in entries)
    provided = said["cache verify"]["provided"]
    assert all(Path(one["path"]).is_relative_to(node.cache) for one in provided)
    assert len(said["cache extract KEY {out}"]["files"]) == len(
        list((tmp_path / "out").iterdir())
    )
    assert ELSEWHERE in said["render user-data gpu-1.0"]
    assert not (node.root / USUAL).exists()


def test_it_is_made_where_it_is_not_there(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.configure(cache_dir="/srv/other/one")
    assert command(node, capsys, "build", "gpu-1.0")["error"]["code"] == 13  # Nothing is there.
    assert (node.root / "srv/other/one").stat().st_mode & 0o777 == 0o755
    assert command(node, capsys, "cache", "list")["entries"] == []


def test_a_folder_with_something_else_in_it_is_refused(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.root / "srv/data/downloads").mkdir(parents=True)
    (node.root / "srv/data/downloads/thesis").touch()
    (node.root / "srv/data/other").touch()
    node.configure(cache_dir="/srv/data")
    error = command(node, capsys, "cache", "gc", "--all")["error"]
    assert error["code"] == 10
    assert "holds what is not Modulus's, such as other" in error["message"]
    assert "a folder of its own" in error["hint"]
    assert (node.root / "srv/data/downloads/thesis").exists()


def test_a_folder_that_others_can_change_is_refused(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.cache.parent.chmod(0o777)
    error = command(node, capsys, "up", "gpu-1.0")["error"]
    assert error["code"] == 10
    assert "/srv/kept: anyone may write it" in error["message"]
    assert "belong to root" in error["hint"]


def test_one_driver_has_no_cache_of_its_own(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.configure(drivers={"gpu": {"cache_dir": "/srv/gpu"}})
    error = command(node, capsys, "plan", "gpu-1.0")["error"]
    assert error["code"] == 10
    assert "drivers.gpu.cache_dir: counts for all drivers" in error["message"]


def test_a_cache_that_is_mounted_noexec_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").mkdir()
    with tmpfs(tmp_path / "root/var", "64m", "noexec") as var, ExitStack() as stack:
        nodes = fake_node(tmp_path, monkeypatch)
        node = next(nodes)
        stack.callback(next, nodes, None)
        # What is built already needs no program of the cache.
        assert command(node, capsys, "build", "gpu-1.0")["code"] == 0
        shutil.rmtree(node.cache / "builds")
        done = command(node, capsys, "build", "gpu-1.0")
        assert done["error"]["code"] == 13
        assert f"{var} is mounted noexec" in done["error"]["message"]
        assert "cache_dir" in done["error"]["hint"]
        assert not list(node.cache.glob("builds/*/.*"))
        up = command(node, capsys, "up", "gpu-1.0")
        assert "noexec" in up["error"]["message"]
        move(node)
        node.stock()
        assert command(node, capsys, "up", "gpu-1.0")["code"] == 0
        assert list((node.cache / "builds").iterdir()) == [node.cache / "builds" / RELEASE]
