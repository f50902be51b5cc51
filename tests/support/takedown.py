"""A driver taken down, and the files of it that are left."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fakedriver import FakeNode


def take_down(
    node: FakeNode, capsys: pytest.CaptureFixture[str], *words: str, instance: str = "gpu-1.0"
) -> Any:
    """The value that ``down --json`` prints, and its exit code."""
    capsys.readouterr()
    code = node.run("down", instance, "--json", *words)
    return json.loads(capsys.readouterr().out) | {"code": code}


def files(node: FakeNode) -> set[str]:
    """Every file of the root that is not the kernel's, a lock or a cache."""
    own = ("sys/", "proc/", "var/cache/", "run/modulus/locks/")
    return {
        path
        for path in node.everything()
        if not path.startswith(own)
        and path != "etc/ld.so.cache"
        and not ((node.root / path).is_dir() and not (node.root / path).is_symlink())
    }
