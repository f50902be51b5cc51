"""``build --all-kernels``: whether a reboot is safe, and with which kernel it begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.agent.prebuild.record import KernelRecord
from modulus.core.kernel.upcoming import Kernel
from tests.support.fakedriver import RELEASE, FakeNode, fake_node
from tests.support.headertrees import link, write

OLD, NEW = "6.1.0-8-amd64", "6.1.0-10-amd64"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


def build(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = node.run("build", "gpu-1.0", "--all-kernels", "--json")
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict)
    return code, value


def test_the_running_kernel_needs_no_store(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.forget_builds()
    code, value = build(node, capsys)
    (result,) = value["results"]
    assert code == 0
    assert result["kernel"] == RELEASE and result["hit"] and result["error"] is None
    assert Path(result["path"]).parent == node.home
    assert node.run("build", "gpu-1.0", "--all-kernels") == 0
    assert capsys.readouterr().out.startswith(f"active: gpu-1.0 for {RELEASE} (")


@pytest.mark.parametrize(
    "change", [{"build_id": b"another"}, {"version": "#1 SMP Debian 6.1.67-2"}]
)
def test_another_build_of_the_running_kernel_does(
    node: FakeNode, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.forget_builds()
    node.reboot(**change)
    code, value = build(node, capsys)
    assert code == 13 and value["results"][0]["error"]


def test_what_another_instance_has_in_place_counts_for_nothing(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    capsys.readouterr()
    assert node.run("build", "gpu-2.0", "--all-kernels") != 0
    assert "active" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("default", "order"), [(OLD, [OLD, NEW, RELEASE]), (None, [NEW, RELEASE, OLD])]
)
def test_the_kernel_of_the_next_boot_comes_first(
    node: FakeNode,
    capsys: pytest.CaptureFixture[str],
    default: str | None,
    order: list[str],
) -> None:
    for release in (OLD, NEW):
        write(node.root / "lib/modules" / release / "modules.builtin", "")
    if default:
        link(node.root / "vmlinuz", f"boot/vmlinuz-{default}")
    code, value = build(node, capsys)
    assert [result["kernel"] for result in value["results"]] == order
    hits = {result["kernel"]: result["hit"] for result in value["results"]}
    assert hits == {OLD: False, NEW: False, RELEASE: True}
    assert code == 13, "a reboot is not safe"


def test_success_by_hand_overtakes_a_failure_of_the_agents(node: FakeNode) -> None:
    assert node.run("build", "gpu-1.0") == 0
    record = KernelRecord(node.root, "gpu-1.0", print)
    for kernels, stays in (({RELEASE: Kernel("a"), NEW: Kernel("a")}, True),
                           ({RELEASE: Kernel("a")}, False)):  # fmt: skip
        record.ended(kernels, 13, 1.0)
        assert node.run("build", "gpu-1.0") == 0
        assert (record.tried.code == 13) == stays
        assert (node.root / "run/modulus/ahead/gpu-1.0.json").exists() == stays
