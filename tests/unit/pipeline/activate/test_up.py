"""``up`` from end to end on a node of its own: all is real but the kernel and its tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from tests.support.bringup import INSTALL, LOAD, Change, active, replace_module, up
from tests.support.fakedriver import NODES, RELEASE, VERSION, FakeNode, fake_node
from tests.support.fakepackage import driver_module
from tests.support.headertrees import write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


def test_a_stored_build_becomes_a_driver_at_work(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    done = up(node, capsys)
    assert done["code"] == 0
    assert node.ran() == INSTALL + LOAD
    assert node.loaded() == {"gpu": "1.0", "gpu_uvm": "1.0"}
    assert node.nodes() == {"gpu-uvm": (243, 0), "gpu0": (195, 0), "gpuctl": (195, 255)}
    assert node.firmware_path() == f"/opt/drivers/.gpu/{done['generation']}/firmware"
    assert os.readlink(node.link) == f".gpu/{done['generation']}"
    assert (node.root / "var/lib/modulus/gpu/selected").read_text() == "gpu-1.0\n"
    assert "blacklist rival\n" in (node.root / "etc/modprobe.d/modulus-gpu.conf").read_text()
    assert (done["phase"], done["warm"], done["hit"], done["changed"]) == (
        "ready",
        False,
        True,
        True,
    )


def test_the_state_tells_of_the_driver_that_is_ready(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    done = up(node, capsys)
    state = node.state()
    del state["since"], state["writer"]
    assert state == {
        "instance": "gpu-1.0",
        "phase": "ready",
        "progress": None,
        "eta_s": None,
        "active": True,
        "selected": True,
        "key": done["key"],
        "generation": done["generation"],
        "kernels": [{"release": RELEASE, "ready": True, "default_boot": True}],
        "findings": [],
        "error": None,
        "hold_s": None,
        "proof": None,
    }


@pytest.mark.parametrize(
    ("path", "spoil"),
    [
        ("lib/libgpu.so.1.0", lambda path: path.write_bytes(b"")),
        ("bin/gpu-tool", Path.unlink),
        ("bin/gpu-tool", lambda path: path.chmod(0o644)),
        ("firmware/gpu/1.0/gpu.bin", Path.unlink),
        ("lib/libgpu.so.1", Path.unlink),
    ],
)
@pytest.mark.parametrize("boots", [False, True])
def test_what_is_damaged_is_made_anew(
    node: FakeNode,
    capsys: pytest.CaptureFixture[str],
    path: str,
    spoil: Callable[[Path], object],
    boots: bool,
) -> None:
    first = up(node, capsys)["generation"]
    spoil(node.link / path)
    if boots:
        node.reboot()
    done = up(node, capsys)
    assert (done["code"], done["phase"], done["warm"]) == (0, "ready", False)
    assert done["generation"] == f"{first}.2"
    assert f"{first} is damaged: {path} " in done["said"]
    assert node.run("verify", "--deep") == 0


def test_what_is_at_work_is_left_alone(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    up(node, capsys)
    node.ran()
    before = node.everything()
    done = up(node, capsys)
    assert (done["code"], done["phase"], done["warm"], done["changed"]) == (
        0,
        "ready",
        True,
        False,
    )
    assert node.ran() == []
    after = node.everything()
    # Its own word that all is well is new.
    del before["run/modulus/gpu-1.0.json"], after["run/modulus/gpu-1.0.json"]
    assert after == before


def test_a_boot_needs_nothing_but_the_generation(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    first = up(node, capsys)
    node.reboot()
    node.forget_builds()
    node.ran()
    done = up(node, capsys)
    assert (done["code"], done["warm"], done["generation"]) == (0, True, first["generation"])
    assert node.ran() == LOAD
    assert tuple(node.nodes()) == NODES
    assert not node.cache.exists()


@pytest.mark.parametrize(
    ("version", "build_id"),
    [("#1 SMP Debian 6.1.68-1", b"the kernel"), (VERSION, b"another kernel")],
)
def test_a_kernel_that_was_built_again_gets_its_own_generation(
    node: FakeNode, capsys: pytest.CaptureFixture[str], version: str, build_id: bytes
) -> None:
    first = up(node, capsys)
    node.reboot(version, build_id)
    done = up(node, capsys)
    assert (done["code"], done["phase"], done["warm"]) == (0, "ready", False)
    assert done["generation"] != first["generation"]
    assert "damaged" not in done["said"]
    node.reboot(version, build_id)
    node.forget_builds()
    assert up(node, capsys)["warm"]
    node.reboot()
    assert up(node, capsys)["error"]["code"] == 13


@pytest.mark.parametrize(
    "damage",
    [
        lambda node: replace_module(node, b"no module at all"),
        lambda node: replace_module(node, node.module("gpu").read_bytes() + b"\0"),
        lambda node: replace_module(node, driver_module("gpu", "1.1")),
        lambda node: node.module("gpu-uvm").unlink(),
        lambda node: (node.link / "lib/libgpu.so.1.0").unlink(),
        lambda node: (node.link / "lib/libgpu.so.1").unlink(),
        lambda node: (node.link / "bin/gpu-tool").unlink(),
    ],
    ids=[
        "no module",
        "longer module",
        "another module",
        "module gone",
        "library gone",
        "link gone",
        "tool gone",
    ],
)
def test_a_damaged_generation_is_replaced(
    node: FakeNode, capsys: pytest.CaptureFixture[str], damage: Change
) -> None:
    first = up(node, capsys)
    node.reboot()
    damage(node)
    node.ran()
    done = up(node, capsys)
    assert (done["code"], done["warm"], done["changed"]) == (0, False, True)
    assert f"{first['generation']} is damaged" in done["said"]
    assert done["generation"] == f"{first['generation']}.2"
    assert node.module("gpu").read_bytes() == driver_module("gpu", "1.0")
    assert set(LOAD) <= set(node.ran())
    assert node.firmware_path() == f"/opt/drivers/.gpu/{done['generation']}/firmware"
    node.reboot()
    assert up(node, capsys)["warm"]


def test_nothing_is_put_in_place_under_another_version_that_is_loaded(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    first = up(node, capsys)
    node.stock("2.0")
    node.ran()
    done = up(node, capsys, "--no-load", instance="gpu-2.0")
    assert (done["code"], node.ran()) == (17, [])
    assert "gpu 1.0 is loaded from /opt/drivers/.gpu/" in done["error"]["message"]
    assert "modulus down gpu-1.0" in done["error"]["hint"]
    assert active(node) == (Instance("gpu", "1.0"), first["generation"])
    assert node.firmware_path().endswith(f"{first['generation']}/firmware")
    assert up(node, capsys)["code"] == 0


def test_a_module_of_others_keeps_ours_out_after_a_boot(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    first = up(node, capsys)
    node.reboot()
    file = node.root / "lib/modules" / RELEASE / "updates/dkms/gpu.ko"
    file.parent.mkdir(parents=True)
    file.write_bytes(driver_module("gpu", "1.5"))
    write(node.root / "sys/module/gpu/version", "1.5\n")
    write(node.root / "sys/module/gpu/srcversion", "S1.5-gpu\n")
    node.ran()
    done = up(node, capsys)
    assert (done["code"], node.ran(), node.firmware_path()) == (17, [], "")
    assert f"/lib/modules/{RELEASE}/updates/dkms/gpu.ko (DKMS)" in done["error"]["message"]
    assert active(node) == (Instance("gpu", "1.0"), first["generation"])


def test_a_driver_that_was_taken_down_makes_room_for_another_version(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    up(node, capsys)
    node.stock("2.0")
    assert node.run("down", "gpu-1.0") == 0
    done = up(node, capsys, instance="gpu-2.0")
    assert (done["code"], node.loaded()) == (0, {"gpu": "2.0", "gpu_uvm": "2.0"})
    assert (node.link / "lib/libgpu.so.1").readlink() == Path("libgpu.so.2.0")
