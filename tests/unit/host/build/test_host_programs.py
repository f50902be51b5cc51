"""What a host must have for a build without a container."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from modulus.errors import ToolchainError
from modulus.host.build.host_programs import check_host
from modulus.host.files.tree_digest import tree_digest
from tests.support.fakedriver import FakeNode, fake_node
from tests.support.library import shared_library
from tests.support.switching import command

MACHINE = platform.machine()
OTHER = "aarch64" if MACHINE == "x86_64" else "x86_64"
OBJTOOL = "build/tools/objtool/objtool"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with one library."""
    host = tmp_path / "host"
    for folder in ("etc", "usr/lib", "lib"):
        (host / folder).mkdir(parents=True)
    (host / "usr/lib/libthere.so.1").write_bytes(shared_library("libthere.so.1"))
    (host / "etc/ld.so.conf").write_text("/usr/lib\n")
    subprocess.run(["ldconfig", "-X", "-r", host], check=True)
    return host


def headers(folder: Path, content: bytes, name: str = OBJTOOL) -> Path:
    path = folder / "headers" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return folder / "headers"


@pytest.mark.parametrize(
    "content",
    [
        shared_library(None, needs=["libthere.so.1"]),
        shared_library(None),
        shared_library(None, needs=["libgone.so.1"], runpath="/opt/lib"),
        b"#!/bin/sh\n",
        b"",
    ],
)
def test_nothing_lacks(host: Path, tmp_path: Path, content: bytes) -> None:
    check_host(headers(tmp_path, content), MACHINE, host)


def test_a_kernel_may_have_fewer_programs(host: Path, tmp_path: Path) -> None:
    check_host(tmp_path, MACHINE, host)


def test_a_library_that_lacks_is_named_with_its_package(host: Path, tmp_path: Path) -> None:
    tree = headers(tmp_path, shared_library(None, needs=["libthere.so.1", "libelf.so.1"]))
    with pytest.raises(ToolchainError) as caught:
        check_host(tree, MACHINE, host)
    assert caught.value.message == (
        "tools/objtool/objtool of the kernel's headers needs libelf.so.1, which this host lacks"
    )
    assert "apt-get install libelf1" in caught.value.hint
    assert "build.container to auto" in caught.value.hint


def test_a_library_that_only_the_linkers_cache_has_lacks(host: Path, tmp_path: Path) -> None:
    (host / "usr/lib/libthere.so.1").unlink()
    with pytest.raises(ToolchainError, match=r"libthere\.so\.1, which this host lacks"):
        check_host(
            headers(tmp_path, shared_library(None, needs=["libthere.so.1"])), MACHINE, host
        )


def test_without_the_linkers_cache_nothing_is_claimed(host: Path, tmp_path: Path) -> None:
    (host / "etc/ld.so.cache").unlink()
    check_host(headers(tmp_path, shared_library(None, needs=["libgone.so.1"])), MACHINE, host)


def test_programs_of_another_machine_are_told(host: Path, tmp_path: Path) -> None:
    tree = headers(tmp_path, shared_library(None, machine=OTHER), "build/scripts/basic/fixdep")
    with pytest.raises(ToolchainError, match=f"is for {OTHER}, this is {MACHINE}"):
        check_host(tree, MACHINE, host)


def test_a_damaged_program_is_told(host: Path, tmp_path: Path) -> None:
    tree = headers(tmp_path, shared_library(None, needs=["x"])[:150])
    with pytest.raises(
        ToolchainError, match=r"objtool of the kernel's headers cannot run: .*cut"
    ):
        check_host(tree, MACHINE, host)


def test_commands_that_lack_are_named(
    host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="awk, cat, cp, find, grep, sed, sh of the host"):
        check_host(tmp_path, MACHINE, host)


def test_it_is_asked_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for node in fake_node(tmp_path, monkeypatch):
        shutil.rmtree(node.cache / "builds")
        for tool in ("gcc-12", "ld", "as", "make", "strip"):
            (node.tools / tool).write_text("#!/bin/sh\n")
            (node.tools / tool).chmod(0o755)
        add_program(node, shared_library(None, needs=["libgone.so.1"]))
        node.configure(build={"container": "none"})
        done = command(node, capsys, "build", "gpu-1.0")
        assert done["error"]["code"] == 13
        assert "needs libgone.so.1, which this host lacks" in done["error"]["message"]
        node.configure(build={"container": "nspawn"})
        done = command(node, capsys, "build", "gpu-1.0")
        assert "libgone" not in done["error"]["message"]


def add_program(node: FakeNode, content: bytes) -> None:
    """Adds to the headers a program that kbuild would run."""
    (entry,) = (node.cache / "headers").glob("[!.]*")
    headers(entry, content).joinpath("build").rename(entry / "new")
    shutil.copytree(entry / "new", entry / "tree/build", dirs_exist_ok=True)
    for left in ("headers", "new"):
        shutil.rmtree(entry / left)
    record = json.loads((entry / "record.json").read_text())
    record["id"] = tree_digest(entry / "tree")
    (entry / "record.json").write_text(json.dumps(record))
    entry.rename(entry.with_name(record["id"]))
