"""A kernel by clang and LLVM's linker, with ThinLTO: real headers, toolchain and container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modulus.core.kernel.elf import read_module
from tests.integration.conftest import PROFILES
from tests.support.clangkernel import install
from tests.support.kernels import Kernels
from tests.support.system import Node

pytestmark = pytest.mark.integration


@pytest.fixture
def clang(node: Node, instance: str, kernels: Kernels, tmp_path: Path) -> Node:
    """A node whose kernel is by clang, as its own header tree says."""
    release = kernels.newest()
    assert node.run("build", instance).status == 0  # Provisions its headers.
    records = {
        path: json.loads(path.read_text()) for path in node.cache.glob("headers/*/record.json")
    }
    tree = next(
        path.with_name("tree")
        for path, record in records.items()
        if record["release"] == release and record["origin"] == "packages"
    )
    other = Node(tmp_path / "clang", release)
    install(tree, other.path, release)
    return other


def test_a_module_is_made_as_the_kernel_was(
    clang: Node, instance: str, kernels: Kernels
) -> None:
    done = clang.run("build", instance, "--json")
    assert done.status == 0, done.stderr
    (result,) = done.json["results"]
    content = clang.modules(result["kernel"])["v4l2loopback.ko"].read_bytes()
    module = read_module(content)
    assert (module.info("vermagic") or "").split()[0] == kernels.newest()
    assert b"clang version 14." in content
    assert b"GCC:" not in content
    manifest = clang.run("cache", "list", "--json").json["entries"]
    assert [entry["made"] for entry in manifest] == ["whole"]

    own = clang.path / "etc/modulus/profiles/v4l2loopback.yaml"
    own.parent.mkdir()
    text = (PROFILES / own.name).read_text()
    own.write_text(text.replace('    CC: "{cc}"\n', '    CC: "{cc}"\n    LD: ld\n'))
    failed = clang.run("build", instance, "--json")
    assert failed.status == 14
    message = failed.json["error"]["message"]
    assert message.endswith("unrecognised emulation mode: llvm")
    assert "LLVM's" in message
    assert "LD" in failed.json["error"]["hint"]
