"""Whole commands on a node whose files somebody has made something else of."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import headertrees
from tests.support.fakedriver import RELEASE, FakeNode, fake_node
from tests.support.headertrees import write
from tests.support.mount import tmpfs

ARCH = os.uname().machine


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


@pytest.fixture
def stocked(node: FakeNode) -> FakeNode:
    node.stock()
    return node


@pytest.mark.parametrize("place", ["srv/store", "var/cache/modulus"])
@pytest.mark.parametrize(
    "sha256",
    ["../../../../etc/important.conf", "/etc/important.conf", "..", "a\0b", "", "A" * 64],
)
def test_no_record_of_a_package_leads_to_another_file(
    node: FakeNode, place: str, sha256: str, capsys: pytest.CaptureFixture[str]
) -> None:
    important = write(node.root / "etc/important.conf")
    node.define(sha256={})
    node.configure(stores=["/srv/store"])
    record = {"sha256": sha256, "verified_by": "https://example.com"}
    write(node.root / place / f"sources/gpu-1.0-{ARCH}.json", json.dumps(record))
    assert node.run("build", "gpu-1.0") == 11
    assert important.read_text() == "text\n"
    assert (node.cache / "downloads").is_dir()
    said = capsys.readouterr().err
    assert said.count("is damaged and not used: ") == 1


@pytest.mark.parametrize(("options", "code"), [("1m,ro", 10), ("4k", 14)])
def test_a_cache_that_takes_no_record_of_a_package(
    stocked: FakeNode, options: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read-only, and full."""
    with tmpfs(stocked.cache / "sources", options) as folder:
        if code == 14:
            (folder / "all").write_bytes(bytes(4096))
        assert stocked.run("up", "gpu-1.0") == code
    said = capsys.readouterr().err
    assert f"modulus: error: cannot write {stocked.cache}/sources/gpu-1.0" in said
    assert "modulus: hint: " in said
    assert "bug" not in said
    assert stocked.run("up", "gpu-1.0") == 0


@pytest.mark.parametrize("kind", ["downloads", "sources", "builds", "userspace", "headers"])
def test_nothing_is_written_through_a_link_out_of_the_root(
    stocked: FakeNode, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    part = stocked.cache / kind
    if part.exists():
        part.rename(outside)
    else:
        outside.mkdir()
    before = sorted(outside.rglob("*"))
    part.symlink_to(outside)
    assert stocked.run("up", "gpu-1.0") == 10
    assert f"{part} leads out of {stocked.root}, to {outside}" in capsys.readouterr().err
    assert sorted(outside.rglob("*")) == before
    # Within the root a part of the cache may lie elsewhere, such as on another disk.
    part.unlink()
    outside.rename(stocked.root / "srv")
    part.symlink_to("../../../srv")
    assert stocked.run("up", "gpu-1.0") == 0


@pytest.mark.parametrize("kind", ["missing", "loop", "pipe", "folder"])
def test_headers_without_a_config(
    stocked: FakeNode, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (config,) = stocked.cache.glob("headers/*/tree/build/.config")
    config.unlink()
    if kind == "loop":
        config.symlink_to(".config")
    elif kind == "pipe":
        os.mkfifo(config)
    elif kind == "folder":
        config.mkdir()
    assert stocked.run("plan", "gpu-1.0") == 13
    said = capsys.readouterr().err
    assert f"modulus: error: {config} cannot be read: " in said
    assert "modulus: hint: remove " in said


@pytest.mark.parametrize(
    "name",
    [
        "build", "build/.config", "build/Module.symvers", "build/Makefile", "source",
        "build/include/config/kernel.release", "build/include/generated/utsrelease.h",
        "build/scripts/mod/modpost",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["loop", "pipe"])
def test_headers_of_the_node_that_are_of_no_use(
    stocked: FakeNode, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The distribution's packages have them too."""
    headertrees.in_place(stocked.root, RELEASE)
    path = stocked.root / "lib/modules" / RELEASE / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    assert stocked.run("plan", "gpu-1.0") == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"stores: [{'/a, ' * 1001}]", "stores: must not have more than 1000 items"),
        (f"stores: [{'/a, ' * 100_000}]", "has more than 20000 values"),
        (f"build: {{jobs: {'9' * 100_000}}}", "line 1: a number that is too large"),
        (f"build: {{jobs: 0x{'f' * 100_000}}}", "line 1: a number that is too large"),
        (f"build: {{jobs: {'9' * 30}}}", "build.jobs: must be"),
        ("boot_hold: .inf", "line 1: a number that is none"),
        ("x: &x [*x]", "x is part of itself"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["modulus.yaml", "profiles/gpu.yaml"])
def test_settings_and_profiles_beyond_all_bounds(
    stocked: FakeNode, file: str, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(stocked.root / "etc/modulus" / file, text)
    assert stocked.run("plan", "gpu-1.0") == 10
    said = capsys.readouterr().err
    # What a profile may hold is another matter.
    if file == "modulus.yaml" or not why.startswith(("stores", "build")):
        assert f"etc/modulus/{file}: {why}" in said
    assert len(said) < 2000


@pytest.mark.parametrize("kind", ["pipe", "loop", "folder", "zeros"])
def test_a_driver_is_selected_by_a_file_alone(
    stocked: FakeNode, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stocked.run("up", "gpu-1.0") == 0
    path = stocked.root / "var/lib/modulus/gpu/selected"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "zeros" else path.name)
    capsys.readouterr()
    assert stocked.run("status", "--json") == 0
    assert '"selected": false' in capsys.readouterr().out
