"""``up`` from end to end on a node of its own: all is real but the kernel and its tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.core.instance import Instance
from modulus.errors import RefusedError
from modulus.host.files.lock import locked
from modulus.host.generation.install import active_generation
from modulus.host.report.reporter import PlainReporter
from tests.support.fakedriver import GPU, NODES, RELEASE, VERSION, FakeNode, fake_node
from tests.support.fakepackage import MODULES, driver_module
from tests.support.fakesys import PCI
from tests.support.headertrees import write
from tests.support.syncs import note_synced

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

INSTALL = ["ldconfig"]
LOAD = ["depmod", "modprobe helper", "modprobe gpu", "modprobe gpu-uvm"]
SECOND = "0000:00:06.0"
Change = Callable[[FakeNode], object]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


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


def change_a_byte(path: Path) -> None:
    """Of its end, so that it stays a module."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


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


@pytest.mark.parametrize(
    ("kernel", "said", "code", "cause"),
    [
        ("Loading of unsigned module is rejected", "", 16, "only modules that are signed"),
        ("", "modprobe: ERROR: Key was rejected by service", 16, "signed with a key"),
        ("gpu: version magic '5.10 ' should be '6.1 '", "", 16, "built for another kernel"),
        ("gpu: disagrees about version of symbol x", "", 16, "against another kernel"),
        ("gpu: Unknown symbol abc (err -2)", "", 16, "needs symbols"),
        ("gpu: `x' invalid for parameter `y'", "", 10, "the value of an option"),
        ("", "modprobe: ERROR: Cannot allocate memory", 14, "too little memory"),
        ("gpu 0000:00:05.0: GPU is too old", "No such device", 15, "too old for this driver"),
        ("gpu: the firmware is missing", "No such device", 16, "firmware is not found"),
        ("gpu: registers claimed by another", "No such device", 17, "another driver has"),
        ("gpu: no GPU found", "No such device", 18, "no GPU for it"),
        ("gpu 0000:00:05.0: it does not answer", "No such device", 19, "a GPU does not answer"),
        ("gpu: it is Monday", "modprobe: ERROR: Bad day", 16, "gpu: it is Monday"),
        ("", "", 16, "modprobe does not say why"),
    ],
)
def test_a_kernel_that_refuses_the_driver_is_explained(
    node: FakeNode,
    capsys: pytest.CaptureFixture[str],
    kernel: str,
    said: str,
    code: int,
    cause: str,
) -> None:
    node.says("gpu", kernel, fails=said)
    done = up(node, capsys)
    error = done["error"]
    assert (done["code"], error["code"]) == (code, code)
    assert error["message"].startswith("gpu was not loaded: ")
    assert cause in error["message"]
    assert f"modulus: error: {error['message']}\nmodulus: hint: {error['hint']}" in done["said"]
    state = node.state()
    assert (state["phase"], state["error"]) == ("failed", error)
    assert (node.ran(), node.nodes()) == (INSTALL + LOAD[:-1], {})
    (node.tools / "gpu.fail").unlink()
    assert up(node, capsys)["phase"] == "ready"
    assert node.ran() == LOAD[2:]


def test_what_the_kernel_says_of_one_gpu_is_a_warning_where_others_work(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.says("gpu", "gpu 0000:00:06.0: GPU is too old")
    done = up(node, capsys)
    assert (done["code"], done["phase"]) == (0, "ready")
    assert [(one["id"], one["severity"]) for one in done["findings"]] == [
        ("kernel-log-unsupported", "warning")
    ]
    assert "warning: gpu 0000:00:06.0: GPU is too old" in done["said"]
    assert node.state()["findings"] == done["findings"]


def test_what_is_wrong_beyond_the_level_of_readiness_is_a_warning(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.configure(ready_when="loaded")
    write(node.root / "dev/gpu0", "mine\n")
    done = up(node, capsys)
    assert (done["code"], done["phase"]) == (0, "ready")
    (finding,) = done["findings"]
    assert (finding["level"], finding["severity"]) == ("nodes", "warning")
    assert f"warning: {finding['message']}" in done["said"]


def test_a_module_to_load_before_may_fail(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.says("helper", fails="no")
    done = up(node, capsys)
    assert done["code"] == 0
    assert "helper was not loaded before gpu" in done["said"]


@pytest.mark.parametrize(
    ("level", "code"), [("usable", 19), ("nodes", 0), ("loaded", 0)], ids=str
)
def test_what_is_wrong_counts_up_to_the_level_that_is_wanted(
    node: FakeNode, capsys: pytest.CaptureFixture[str], level: str, code: int
) -> None:
    write(node.tools / "ldconfig", "#!/bin/sh\n", 0o755)
    done = up(node, capsys, "--set", f"ready_when={level}")
    assert done["code"] == code
    wrong = "the dynamic linker does not find libgpu.so.1"
    assert (wrong in done["said"]) is (code != 0)
    state = node.state()
    if code:
        assert done["error"]["message"].startswith(f"{wrong}: /etc/ld.so.cache has no such")
        assert (state["phase"], state["error"]) == ("failed", done["error"])
    else:
        assert (state["phase"], state["error"], done["findings"]) == ("ready", None, [])
    # The driver is loaded all the same, and stays.
    assert tuple(node.nodes()) == NODES


@pytest.mark.parametrize(
    ("change", "ids"),
    [
        (lambda node: node.params(modify=0), ["unmanaged-node"] * 2),
        (
            lambda node: write(
                node.root / "lib/modules" / RELEASE / "updates/dkms/gpu.ko.xz", ""
            ),
            ["foreign-module"],
        ),
    ],
    ids=["unmanaged", "foreign"],
)
def test_a_warning_keeps_no_driver_from_being_ready(
    node: FakeNode, capsys: pytest.CaptureFixture[str], change: Change, ids: list[str]
) -> None:
    change(node)
    done = up(node, capsys)
    assert (done["code"], done["phase"]) == (0, "ready")
    assert [finding["id"] for finding in done["findings"]] == ids
    assert {finding["severity"] for finding in done["findings"]} == {"warning"}
    for finding in done["findings"]:
        assert f"{finding['message']}: {finding['cause']}; {finding['fix']}" in done["said"]
    assert node.state()["findings"] == done["findings"]


def test_a_foreign_file_in_the_way_of_a_node_is_an_error(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    write(node.root / "dev/gpu0", "mine\n")
    done = up(node, capsys)
    assert done["code"] == 19
    assert done["error"]["message"].startswith("/dev/gpu0 cannot be made")
    assert (node.root / "dev/gpu0").read_text() == "mine\n"


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


HOLDER = """\
import sys
from pathlib import Path
from modulus.core.status.state import State
from modulus.host.files.lock import locked
from modulus.host.report.reporter import PlainReporter
from modulus.host.status.files import write_state
root = Path(sys.argv[1])
with locked(root / "run/modulus/locks/up-gpu", "it", PlainReporter(), 0):
    write_state(root, State("gpu-1.0", "load"))
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_who_is_locked_out_leaves_the_others_state_alone(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert up(node, capsys)["code"] == 0
    state = node.root / "run/modulus/gpu-1.0.json"
    words, pipe = [sys.executable, "-c", HOLDER, str(node.root)], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as other:
        assert other.stdout and other.stdout.readline() == b"at work\n"
        before = state.read_text()
        assert up(node, capsys, "--lock-timeout", "0.5")["code"] == 20
        assert state.read_text() == before


def test_two_at_once_do_the_work_once(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = node.root / "run/modulus/locks/up-gpu"
    with locked(lock, "it", PlainReporter(), 0):
        done = up(node, capsys, "--lock-timeout", "0")
        assert (done["code"], node.ran()) == (20, [])
        assert f"the driver gpu is held by process {os.getpid()}" in done["error"]["message"]
    taken, free = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(lock, "it", PlainReporter(), 0):
            taken.set()
            free.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(10)
    timer = threading.Timer(0.1, free.set)
    timer.start()
    done = up(node, capsys)
    holder.join()
    assert (done["code"], done["phase"]) == (0, "ready")
    assert "wait: for the driver gpu, held by" in done["said"]


SEE_IMPORTS = f"""\
import sys
sys.path[:0] = {sys.path}
from modulus.cli import run
code = run(sys.argv[1:])
print(code, *sys.modules)
"""
BUILDING = {
    "requests",
    "urllib3",
    "http.client",
    "ssl",
    "modulus.pipeline.build.build",
    "modulus.pipeline.activate.provide",
    "modulus.host.fetch.fetcher",
    "modulus.host.distribution.provisioner",
}


def modules_of_sh() -> set[str]:
    """What the sh of this machine imports by itself."""
    code = f"import sys; sys.path[:0] = {sys.path}; import sh; print(*sys.modules)"
    words = [sys.executable, "-S", "-c", code]
    return set(
        subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    )


@pytest.mark.parametrize(
    ("change", "loads"),
    [
        (lambda _: None, False),
        (lambda node: write(node.module("gpu").with_name("unwanted.ko"), "hashed"), False),
        (FakeNode.reboot, True),
    ],
    ids=["all loaded", "all that is wanted", "booted"],
)
def test_a_warm_start_imports_nothing_that_builds(
    node: FakeNode, change: Change, loads: bool
) -> None:
    node.run("up", "gpu-1.0")
    change(node)
    done = subprocess.run(
        # -S: what this machine has each Python import is not ours.
        [sys.executable, "-S", "-c", SEE_IMPORTS, "up", "gpu-1.0", "--root", str(node.root)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    code, *imported = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert "modulus.pipeline.activate.up" in imported
    # sh 2 brings ssl, by asyncio.
    assert (BUILDING & set(imported)) - (modules_of_sh() if loads else set()) == set()
    # There is nothing to run where all is loaded.
    assert ("sh" in imported) is loads


def test_what_keeps_the_module_root_from_being_made_is_said_once(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.reboot()
    node.ran()
    write(node.tools / "depmod", "#!/bin/sh\necho refused >&2\nexit 1\n", 0o755)
    capsys.readouterr()
    assert node.run("up", "gpu-1.0") == RefusedError.code
    said = capsys.readouterr().err
    assert said.count("depmod cannot read the driver's modules: depmod failed") == 1
    assert (node.ran(), node.loaded()) == ([], {})


def test_a_damaged_module_is_not_loaded(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.reboot()
    change_a_byte(node.module("gpu"))
    node.forget_builds()
    node.ran()
    capsys.readouterr()
    assert node.run("up", "gpu-1.0") != 0
    assert "gpu.ko is not what was installed" in capsys.readouterr().err
    assert (node.ran(), node.loaded()) == ([], {})


def test_a_warm_start_waits_for_no_disk(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes is in /run and /dev, which do not outlive a power cut."""
    assert node.run("up", "gpu-1.0") == 0
    node.reboot()
    synced = note_synced(monkeypatch)
    assert node.run("up", "gpu-1.0") == 0
    assert synced == []
    # What lasts is synced.
    (node.root / "var/lib/modulus/gpu/good.json").unlink()
    assert node.run("up", "gpu-1.0") == 0
    assert str(node.root / "var/lib/modulus/gpu") in synced


def test_what_an_older_version_noted_for_anyone_to_read_goes(node: FakeNode) -> None:
    left = write(node.root / "var/lib/modulus/gpu/recall.json", '{"proxy": "secret"}')
    assert node.run("up", "gpu-1.0") == 0
    assert not left.exists()


def test_a_driver_of_one_module_needs_no_userspace_nodes_or_gpu(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.define(pci=[], nodes=[], components={}, libraries=[], preload=[], load=[MODULES[0]])
    node.stock()
    (node.root / "sys/bus/pci/devices" / GPU).unlink()
    done = up(node, capsys)
    assert (done["code"], done["phase"], node.nodes()) == (0, "ready", {})
    assert node.loaded() == {"gpu": "1.0"}
