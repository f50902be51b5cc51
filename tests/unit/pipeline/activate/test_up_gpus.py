"""``up`` by what GPUs a node has: none yet, one in a guest, one that the driver is not for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from tests.support.bringup import INSTALL, LOAD, active, up
from tests.support.fakedriver import GPU, NODES, RELEASE, FakeNode, fake_node
from tests.support.fakesys import PCI
from tests.support.headertrees import write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

SECOND = "0000:00:06.0"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


@pytest.mark.parametrize("passed", [False, True], ids=["none", "passed through"])
def test_a_node_without_a_gpu_fails(
    node: FakeNode, capsys: pytest.CaptureFixture[str], passed: bool
) -> None:
    if passed:
        node.sys.bind(GPU, "vfio-pci")
    else:
        (node.root / "sys/bus/pci/devices" / GPU).unlink()
    done = up(node, capsys)
    assert (done["code"], node.ran()) == (18, [])
    assert ("passed through (vfio-pci)" in done["error"]["message"]) is passed
    assert (active(node), node.state()["phase"]) == (None, "failed")
    assert node.state()["error"] == done["error"]


def test_a_node_may_wait_for_its_gpu(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.configure(on_no_gpu="wait")
    gpu = node.root / "sys/bus/pci/devices" / GPU
    target = gpu.readlink()
    gpu.unlink()
    done = up(node, capsys)
    assert (done["code"], done["phase"], node.ran()) == (0, "wait", INSTALL)
    assert active(node) == (Instance("gpu", "1.0"), done["generation"])
    assert (node.loaded(), node.nodes(), node.firmware_path()) == ({}, {}, "")
    # Or udev would load a rival for the GPU that comes.
    assert "blacklist rival\n" in (node.root / "etc/modprobe.d/modulus-gpu.conf").read_text()
    state = node.state()
    assert (state["phase"], state["active"], state["generation"]) == (
        "wait",
        True,
        done["generation"],
    )
    # It starts to wait again as a driver starts: from the generation alone.
    node.reboot()
    node.forget_builds()
    again = up(node, capsys)
    assert (again["code"], again["phase"], again["warm"], again["changed"]) == (
        0,
        "wait",
        True,
        False,
    )
    gpu.symlink_to(target)
    plugged = up(node, capsys)
    assert (plugged["code"], plugged["phase"], node.ran()) == (0, "ready", LOAD)


def test_the_reboot_that_a_rival_in_use_needs_will_help(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.configure(initramfs="never")
    node.sys.module("rival", 1)
    node.sys.bind(GPU, "rival")
    image = write(node.root / f"boot/initrd.img-{RELEASE}", f"lib/modules/{RELEASE}/rival.ko\n")
    write(node.tools / "lsinitramfs", '#!/bin/sh\ncat "$1"\n', 0o755)
    done = up(node, capsys)
    assert (done["code"], node.loaded()) == (17, {})
    assert "rival has GPU" in done["error"]["message"]
    record = json.loads((node.root / "var/lib/modulus/gpu/initramfs.json").read_text())
    assert (record["held"], record["image"]["size"]) == (["rival"], image.stat().st_size)


def test_a_node_may_be_for_building_only(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.configure(on_no_gpu="build-only")
    node.sys.bind(GPU, "vfio-pci")
    done = up(node, capsys)
    assert (done["code"], done["phase"], done["hit"], node.ran()) == (0, "build", True, [])
    assert not node.link.parent.exists()
    state = node.state()
    assert (state["phase"], state["active"], state["generation"]) == ("ready", False, None)


def test_a_gpu_that_is_passed_through_is_left_to_its_guest(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.sys.device(SECOND, numa_node="0")
    node.sys.bind(GPU, "vfio-pci")
    done = up(node, capsys)
    assert done["code"] == 0
    assert f"1 GPU ({SECOND} 10de:20b0), 1 passed through" in done["said"]
    assert (node.root / PCI / GPU / "driver").readlink().name == "vfio-pci"
    assert tuple(node.nodes()) == NODES


TOO_OLD = f"GPU {SECOND} (10de:1180): Kepler GPUs are too old for it"
RULE = {"pci": "0x1180", "why": "Kepler GPUs are too old for it", "instead": "use 0.9"}


def plug_an_old_one(node: FakeNode) -> None:
    """The driver does not take it: its class tells the tool that stands in for the kernel."""
    node.define(flavour_rules=[RULE])
    node.sys.device(SECOND, "10de:1180", "0x030201", numa_node="0")


def test_a_gpu_that_the_driver_is_not_for_is_left_out(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    plug_an_old_one(node)
    for warm in (False, True):
        done = up(node, capsys)
        assert (done["code"], done["phase"], done["warm"]) == (0, "ready", warm)
        assert (
            f"warning: {TOO_OLD}; the driver leaves it out: use 0.9" in done["said"]
        ) is not warm
        assert [(one["id"], one["severity"]) for one in done["findings"]] == [
            ("gpu-unbound", "warning")
        ]
    assert tuple(node.nodes()) == NODES
    assert node.run("plan", "gpu-1.0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == [
        {"gpu": SECOND, "cause": TOO_OLD, "fix": "use 0.9"}
    ]
    assert node.run("plan", "gpu-1.0") == 0
    assert f"left out: {TOO_OLD} (use 0.9)\n" in capsys.readouterr().out


@pytest.mark.parametrize("warm", [False, True])
def test_where_all_gpus_have_to_work_it_is_refused(
    node: FakeNode, capsys: pytest.CaptureFixture[str], warm: bool
) -> None:
    if warm:
        assert up(node, capsys)["code"] == 0
        node.reboot()
    plug_an_old_one(node)
    node.configure(require_all_gpus=True, ready_when="nodes")
    done = up(node, capsys)
    assert (done["code"], node.loaded()) == (15, {})
    assert done["error"]["message"] == f"{TOO_OLD}, and require_all_gpus is set"
    assert node.run("plan", "gpu-1.0") == 15


def test_where_it_is_the_only_one_it_is_refused(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    plug_an_old_one(node)
    (node.root / "sys/bus/pci/devices" / GPU).unlink()
    done = up(node, capsys)
    assert (done["code"], done["error"]["message"], node.loaded()) == (15, TOO_OLD, {})
    assert done["error"]["hint"] == "use 0.9"


def test_each_gpu_has_its_node(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.sys.device(SECOND, numa_node="0")
    assert up(node, capsys)["code"] == 0
    assert node.nodes()["gpu1"] == (195, 1)
