"""Which modules ``up`` loads, with what, and what it does for the next boot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from tests.support.bringup import INSTALL, LOAD, active, replace_module, up
from tests.support.fakedriver import GPU, RELEASE, FakeNode, fake_node
from tests.support.fakepackage import driver_module
from tests.support.fakesys import PCI
from tests.support.headertrees import write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


def test_without_loading_a_driver_is_only_put_in_its_place(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.root / "sys/bus/pci/devices" / GPU).unlink()
    done = up(node, capsys, "--no-load")
    assert (done["code"], done["phase"], done["changed"]) == (0, "install", True)
    assert (node.ran(), node.loaded(), node.nodes()) == (INSTALL, {}, {})
    assert active(node) == (Instance("gpu", "1.0"), done["generation"])
    assert node.state() is None
    assert up(node, capsys, "--no-load")["changed"] is False


def test_a_chosen_set_of_modules_is_loaded(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert up(node, capsys, "--set", "modules=[gpu]")["code"] == 0
    assert node.ran() == INSTALL + LOAD[:-1]
    assert up(node, capsys)["code"] == 0
    assert node.ran() == ["depmod", "modprobe gpu-uvm"]


@pytest.mark.parametrize("chosen", ["[gpu_uvm]", "[gpu-uvm, gpu]"])
def test_a_chosen_module_comes_with_what_it_needs(
    node: FakeNode, capsys: pytest.CaptureFixture[str], chosen: str
) -> None:
    setting = ("--set", f"modules={chosen}")
    assert up(node, capsys, *setting)["code"] == 0
    assert node.ran() == INSTALL + LOAD
    node.reboot()
    replace_module(node, driver_module("gpu", "1.0") + b"\0")
    done = up(node, capsys, *setting)
    assert (done["code"], done["warm"]) == (0, False)
    assert "is damaged" in done["said"]


def test_a_module_that_is_not_the_drivers_is_told_before_anything_is_built(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.forget_builds()
    for command in ("up", "plan"):
        assert node.run(command, "gpu-1.0", "--set", "modules=[gpu, other]") == 10
        assert "the driver has no module other" in capsys.readouterr().err
    assert (node.ran(), node.cache.exists(), node.link.parent.exists()) == ([], False, False)


def test_options_of_a_module_that_is_not_the_drivers_are_a_warning(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.configure(module_options={"gpu_uvm": {"a": "1"}, "helper": {"a": "1"}})
    assert "module_options" not in up(node, capsys)["said"]
    node.configure(module_options={"gpu_umv": {"a": "1"}, "gpu_uvm": {"a": "1"}})
    done = up(node, capsys)
    assert done["code"] == 0
    assert (
        "module_options: the driver has no module gpu_umv; its are gpu, gpu-uvm"
        in (done["said"])
    )


def test_the_numa_node_is_right_before_the_driver_reads_it(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    attribute = write(node.root / PCI / GPU / "numa_node", "-1\n")
    tool = node.tools / "modprobe"
    tool.write_text(tool.read_text() + f"cp {attribute} $tools/seen\n")
    assert up(node, capsys, "--set", "numa_fix=true")["code"] == 0
    assert (node.tools / "seen").read_text() == "0\n"


@pytest.mark.parametrize("right", [True, False])
def test_an_initramfs_is_for_a_driver_that_works(
    node: FakeNode, capsys: pytest.CaptureFixture[str], right: bool
) -> None:
    write(node.root / f"boot/initrd.img-{RELEASE}", f"lib/modules/{RELEASE}/rival.ko\n")
    write(node.tools / "lsinitramfs", '#!/bin/sh\ncat "$1"\n', 0o755)
    node.configure(initramfs="never")
    if not right:
        write(node.root / "dev/gpu0", "mine\n")
    done = up(node, capsys)
    assert done["code"] == (0 if right else 19)
    assert (node.root / "var/lib/modulus/gpu/initramfs.json").exists() is right
    if right:
        assert [finding["id"] for finding in done["findings"]] == ["rival-in-initramfs"]
        assert done["said"].index("warning: ") > done["said"].index("verify: ")
        assert "holds rival" in done["said"]
        assert node.state()["findings"] == done["findings"]
