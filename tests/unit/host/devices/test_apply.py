# ruff: noqa: E501
"""Real device nodes below a fake root, from /proc as the real driver fills it."""

from __future__ import annotations

import io
import os
import shutil
import stat
from pathlib import Path

import pytest

from modulus.host.config.load import load_profile
from modulus.host.devices.apply import NodesResult, provide_nodes, remove_nodes
from modulus.host.devices.facts import read_facts
from modulus.host.report.reporter import PlainReporter
from tests.support.headertrees import link
from tests.unit.host.devices.conftest import ALL, Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")


def test_all_nodes_of_a_driver(node: Node) -> None:
    result = node.provide()
    assert node.nodes() == ALL
    assert len(result.wanted) == len(ALL)
    assert result.changed
    assert result.findings == ()
    assert stat.S_IMODE((node.dev / "nvidia-caps").stat().st_mode) == 0o755
    assert stat.S_IMODE((node.dev / "char").stat().st_mode) == 0o755
    assert not (node.dev / "nvidia-caps-imex-channels").exists()
    assert node.log.getvalue() == "nodes: 10 device nodes, 10 of them new\n"


def test_every_node_has_its_link(node: Node) -> None:
    node.provide()
    assert node.links() == {text.split()[0]: f"../{name}" for name, text in ALL.items()}
    for name in node.links():
        status = (node.dev / "char" / name).stat()
        assert f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" == name


def test_a_driver_without_nodes(tmp_path: Path) -> None:
    rules = load_profile(tmp_path, "v4l2loopback").nodes
    assert provide_nodes(tmp_path, rules, PlainReporter(io.StringIO())) == NodesResult()
    assert remove_nodes(tmp_path, rules) == ()
    assert list(tmp_path.iterdir()) == []


def test_what_is_right_is_not_touched(node: Node) -> None:
    node.provide()
    before = {path: path.lstat() for path in node.dev.rglob("*")}
    node.provide()
    assert {path: path.lstat() for path in node.dev.rglob("*")} == before


def test_an_older_driver_and_what_is_not_loaded(node: Node) -> None:
    node.proc("devices", "Character devices:\n195 nvidia-frontend\n243 nvidia-uvm-tools\n")
    (node.root / "sys/module/nvidia_modeset/initstate").write_text("coming\n")
    node.provide()
    assert sorted(node.nodes()) == ["nvidia0", "nvidia1", "nvidiactl"]


def test_the_default_major_is_for_a_module_that_is_loaded(node: Node) -> None:
    node.proc("devices", "Character devices:\n  1 mem\n")
    (node.root / "sys/module/nvidia_modeset/initstate").unlink()
    node.provide()
    assert sorted(node.nodes()) == ["nvidia0", "nvidia1", "nvidiactl"]
    (node.root / "sys/module/nvidia/initstate").unlink()
    assert provide_nodes(node.root, node.rules, PlainReporter(io.StringIO())).wanted == ()


def test_owner_and_mode_are_the_drivers(node: Node) -> None:
    node.params(uid=7, gid=44, mode=0o660)
    node.provide()
    own = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-modeset")
    assert node.nodes() == {
        name: f"{text.split()[0]} 0660 7:44" if name in own else text
        for name, text in ALL.items()
    }


def test_nodes_of_the_gpus_are_left_alone_if_the_driver_says_so(node: Node) -> None:
    node.params(modify=0)
    node.cap("mig/config", 1, 256, modify=0)
    right = node.mknod("nvidia0", 195, 0)
    wrong = node.mknod("nvidia1", 195, 1, 0o600)
    node.mknod("nvidia7", 195, 7)
    before = (right.lstat(), wrong.lstat())
    result = node.provide()
    assert (right.lstat(), wrong.lstat()) == before
    assert sorted(node.nodes()) == sorted(
        {"nvidia7", *ALL} - {"nvidiactl", "nvidia-modeset", "nvidia-caps/nvidia-cap1"}
    )
    found = {finding.message.split()[0]: finding.id for finding in result.findings}
    assert found == dict.fromkeys(
        ("/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia-caps/nvidia-cap1"),
        "unmanaged-node",
    )  # fmt: skip
    assert node.links()["195:0"] == "../nvidia0"
    assert "195:255" not in node.links()


def test_what_is_stale_is_replaced(node: Node) -> None:
    node.mknod("nvidia-uvm", 243, 0)
    node.mknod("nvidia0", 195, 0, 0o600)
    os.chown(node.mknod("nvidiactl", 195, 255), 5, 6)
    link(node.dev / "char/243:0", "../nvidia-uvm")
    link(node.dev / "char/510:0", "../gone")
    link(node.dev / "char/1:3", "../null")
    node.provide()
    assert node.nodes() == ALL
    assert node.links() == {text.split()[0]: f"../{name}" for name, text in ALL.items()} | {
        "1:3": "../null"
    }
    lines = node.log.getvalue().splitlines()
    assert "nodes: /dev/nvidia-uvm replaced: major 243 instead of 510" in lines
    assert "nodes: /dev/nvidia0 replaced: mode 0600 instead of 0666" in lines
    assert "nodes: /dev/nvidiactl replaced: owner 5:6 instead of 0:0" in lines
    assert lines[-1] == "nodes: 10 device nodes, 7 of them new"


def test_one_that_is_replaced_is_never_missing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = node.mknod("nvidia-uvm", 243, 0)
    real = os.mknod

    def watched(scratch: Path, mode: int, device: int) -> None:
        real(scratch, mode, device)
        assert stat.S_IMODE(scratch.lstat().st_mode) == 0
        if device == os.makedev(510, 0):
            assert os.major(path.lstat().st_rdev) == 243

    monkeypatch.setattr(os, "mknod", watched)
    node.provide()
    assert node.nodes() == ALL


def test_what_a_killed_run_left_is_in_nobodys_way(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            node.provide()
    assert node.nodes() == {}
    for run in (node.provide, node.remove):
        # What was killed for good cleans up no more.
        node.mknod(".nvidia0.modulus", 1, 3, 0)
        link(node.dev / "char/.195:0.modulus", "../nvidia0")
        (node.dev / "char/.1:3.modulus").unlink(missing_ok=True)
        link(node.dev / "char/.1:3.modulus", "../null")
        run()
        assert not (node.dev / ".nvidia0.modulus").exists()
        assert not os.path.lexists(node.dev / "char/.195:0.modulus")
        assert os.path.lexists(node.dev / "char/.1:3.modulus")
        assert node.nodes() == (ALL if run == node.provide else {})


def test_a_gpu_and_a_capability_that_are_gone(node: Node) -> None:
    node.cap("gpu0/mig/gi0/access", 3, 0o444)
    node.provide()
    assert node.nodes()["nvidia-caps/nvidia-cap3"] == "237:3 0444"
    shutil.rmtree(node.root / "proc/driver/nvidia/capabilities/gpu0")
    shutil.rmtree(node.root / "proc/driver/nvidia/gpus/0000:00:05.0")
    node.provide()
    expected = {name: text for name, text in ALL.items() if name != "nvidia1"}
    assert node.nodes() == expected
    assert len(node.links()) == len(expected)
    assert "/dev/nvidia1 removed: no device has 195:1\n" in node.log.getvalue()


def test_a_proc_that_cannot_be_seen_removes_nothing(node: Node) -> None:
    node.provide()
    shutil.rmtree(node.root / "proc/driver/nvidia")
    node.provide()
    assert node.nodes() == ALL


def test_switches_and_channels(node: Node) -> None:
    for address in ("0000:c1:00.0", "0000:c2:00.0"):
        node.proc(f"driver/nvidia-nvswitch/devices/{address}/information", "BIOS Version: 1\n")
    node.params(channel=1)
    # One that an administrator made before the driver was loaded again.
    node.mknod("nvidia-caps-imex-channels/channel5", 233, 5, 0o600)
    node.provide()
    extra = {
        "nvidia-nvswitch0": "235:0 0666",
        "nvidia-nvswitch1": "235:1 0666",
        "nvidia-caps-imex-channels/channel0": "234:0 0666",
        "nvidia-caps-imex-channels/channel5": "234:5 0600",
    }
    assert node.nodes() == ALL | extra
    node.params(channel=0)
    node.provide()
    assert node.nodes() == ALL | extra
    node.remove()
    assert list(node.nodes()) == ["nvidia-caps-imex-channels/channel5"]


@pytest.mark.parametrize("unloaded", [False, True])
def test_removal_takes_all_that_was_made(node: Node, unloaded: bool) -> None:
    node.mknod("null", 1, 3)
    link(node.dev / "char/1:3", "../null")
    before = sorted(node.dev.rglob("*"))
    node.provide()
    if unloaded:
        node.unload()
    removed = node.remove()
    assert len(removed) == 2 * len(ALL) + 1
    assert removed[-1] == "/dev/nvidia-caps"
    assert sorted(node.dev.rglob("*")) == before
    assert node.remove() == ()


def test_removal_knows_what_the_driver_said_before(node: Node) -> None:
    node.provide()
    node.params(modify=0)
    before = read_facts(node.root, node.rules)
    node.unload()
    remove_nodes(node.root, node.rules, before)
    assert sorted(node.nodes()) == ["nvidia-modeset", "nvidia0", "nvidia1", "nvidiactl"]


def test_an_absolute_link_is_followed_below_the_root(node: Node) -> None:
    node.dev.rename(node.root / "devices")
    link(node.dev, "/devices")
    node.dev = node.root / "devices"
    node.provide()
    assert node.nodes() == ALL
