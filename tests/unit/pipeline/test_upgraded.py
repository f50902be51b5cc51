"""A node upgraded to the next release of its distribution, with a kernel of the one before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fakedriver import RELEASE, FakeNode, fake_node
from tests.support.headertrees import write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """Its build is stored; it is offline."""
    for node in fake_node(tmp_path, monkeypatch):
        write(node.root / "etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n")
        yield node


@pytest.mark.parametrize("words", [("--kernel", RELEASE), ("--all-kernels",)])
def test_what_was_built_before_is_a_hit(
    node: FakeNode, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert node.run("build", "gpu-1.0", *words) == 0
    assert f"hit: gpu-1.0 for {RELEASE}" in capsys.readouterr().out
    assert node.run("plan", "gpu-1.0") == 0


def test_it_starts_and_status_says_ready(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.reboot()
    assert node.run("up", "gpu-1.0") == 0
    assert "plan: warm: " in capsys.readouterr().err
