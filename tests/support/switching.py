"""What tests of switches, fallbacks and rollbacks share: a node with two versions."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.core.generation.last_good import parse_good
from modulus.host.files.record import read_record
from modulus.host.generation.install import active_generation
from tests.support.fakedriver import NODES, FakeNode, fake_node
from tests.support.headertrees import write

BOTH = ("gpu", "gpu_uvm")
PARTS = ("root", "tools")
"""The folders that make a node."""


@contextlib.contextmanager
def kept(
    folder: Path, prepare: Callable[[FakeNode], object]
) -> Iterator[Callable[[], FakeNode]]:
    """A node below ``folder`` that ``prepare`` has been at; each call has it so again."""
    with pytest.MonkeyPatch.context() as patch:
        for node in fake_node(folder, patch):
            prepare(node)
            node.ran()
            for part in PARTS:
                (folder / part).rename(folder / f"{part}.kept")

            def restore(node: FakeNode = node) -> FakeNode:
                for part in PARTS:
                    shutil.rmtree(folder / part, ignore_errors=True)
                    subprocess.run(
                        ["cp", "-a", folder / f"{part}.kept", folder / part], check=True
                    )
                return node

            yield restore


def command(node: FakeNode, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The value that a command prints with ``--json``, its exit code and what it said."""
    capsys.readouterr()
    code = node.run(*words, "--json")
    output = capsys.readouterr()
    return json.loads(output.out) | {"code": code, "said": output.err}


def at_work(node: FakeNode) -> str | None:
    """The version that is at work, whole: link, modules, nodes, firmware; None for none."""
    found = active_generation(node.driver)
    if found is None:
        return None
    version = found.contents.identity.instance.version
    assert node.loaded() == dict.fromkeys(BOTH, version)
    assert tuple(node.nodes()) == NODES
    assert node.firmware_path() == f"/opt/drivers/.gpu/{found.name}/firmware"
    assert b"libgpu" in (node.root / "etc/ld.so.cache").read_bytes()
    return version


def selected(node: FakeNode) -> str:
    """Which instance is wanted."""
    return (node.root / "var/lib/modulus/gpu/selected").read_text().strip()


def good(node: FakeNode) -> list[str]:
    """The instances whose generations worked, the newest first."""
    record = read_record(node.root / "var/lib/modulus/gpu/good.json", parse_good) or ()
    return [entry.instance for entry in record]


def generation_of(node: FakeNode, version: str) -> Any:
    """The folder of the first generation of a version."""
    return next(path for path in sorted(node.home.iterdir()) if path.name.startswith(version))


def condemn(node: FakeNode, version: str) -> None:
    """Has a version's generation be one of before there were recipes, which is revoked."""
    path = generation_of(node, version) / "generation.json"
    value = json.loads(path.read_text())
    del value["recipe"]
    path.write_text(json.dumps(value))


def active_name(node: FakeNode) -> str:
    """The generation that is the driver."""
    return os.readlink(node.link).partition("/")[2]


def when_loaded(node: FakeNode, version: str, command: str) -> None:
    """Has a shell's command run whenever the first module of ``version`` was loaded."""
    tool = node.tools / "modprobe"
    line = f'[ "$name-$(info version)" != gpu-{version} ] || {command}\n'
    begun, end, rest = tool.read_text().rpartition(") &\n")
    write(tool, begun + line + end + rest, 0o755)


def half_dead(node: FakeNode, version: str) -> None:
    """Has the first module of ``version`` load and not stay."""
    when_loaded(node, version, "rm -r $module")
