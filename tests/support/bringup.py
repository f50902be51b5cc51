"""``up`` on a node of its own, and what it has left."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from modulus.core.instance import Instance
from modulus.host.generation.install import active_generation
from tests.support.fakedriver import FakeNode

INSTALL = ["ldconfig"]
LOAD = ["depmod", "modprobe helper", "modprobe gpu", "modprobe gpu-uvm"]
Change = Callable[[FakeNode], object]


def up(
    node: FakeNode, capsys: pytest.CaptureFixture[str], *words: str, instance: str = "gpu-1.0"
) -> Any:
    """The value that ``up --json`` prints, its exit code and what it said besides."""
    capsys.readouterr()
    code = node.run("up", instance, "--json", *words)
    output = capsys.readouterr()
    return json.loads(output.out) | {"code": code, "said": output.err}


def active(node: FakeNode) -> tuple[Instance, str] | None:
    """Which instance the driver is, and its generation."""
    found = active_generation(node.driver)
    return (found.contents.identity.instance, found.name) if found else None


def replace_module(node: FakeNode, content: bytes) -> None:
    node.module("gpu").write_bytes(content)
