"""What ``up`` leaves, as JSON, and what is other than that."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modulus.core.devices.wanted import DeviceNode
from modulus.core.generation.recorded_state import (
    RecordedState,
    parse_recorded_state,
    recorded_state_value,
)
from modulus.core.pci import PciMatch
from modulus.host.config.load import load_profile
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.recorded_state import (
    drift,
    read_recorded_state,
    write_recorded_state,
)
from tests.support.fakesys import FakeSys
from tests.support.headertrees import link, write

GPU = "0000:00:05.0"
DEVICES = "Character devices:\n195 nvidia\n243 nvidia-uvm\n\nBlock devices:\n"
RULES = load_profile(Path("/"), "nvidia").nodes
STATE = RecordedState(
    instance="nvidia-1.0",
    generation="g",
    needed=("nvidia",),
    modules={"nvidia": "S1", "nvidia_uvm": "", "nvidia_drm": None},
    majors={"nvidia": 195, "nvidia-uvm": 243},
    firmware="/opt/drivers/.nvidia/g/firmware",
    files={"/etc/modprobe.d/modulus-nvidia.conf": "blacklist x\n"},
    pci=(PciMatch(0x10DE, 0x0302),),
    gpus={GPU: "nvidia"},
    rules=RULES,
    nodes=(
        # The numbers of /dev/zero and /dev/full, which anybody may have.
        DeviceNode("/dev/nvidia0", 1, 5),
        DeviceNode("/dev/nvidia-caps/nvidia-cap1", 1, 7, 0o400),
        DeviceNode("/dev/nvidia9", 195, 9, managed=False),
    ),
)
Change = Callable[[Path], object]


def test_it_is_the_same_as_json() -> None:
    assert parse_recorded_state(json.loads(json.dumps(recorded_state_value(STATE)))) == STATE
    empty = RecordedState("a-1", "g")
    assert parse_recorded_state(json.loads(json.dumps(recorded_state_value(empty)))) == empty


@pytest.mark.parametrize(
    "change",
    [
        lambda value: [],
        lambda value: None,
        lambda value: {**value, "schema": 2},
        lambda value: {**value, "generation": "../g"},
        lambda value: {**value, "instance": "nvidia"},
        lambda value: {**value, "modules": {"nvidia": 3}},
        lambda value: {**value, "majors": {"nvidia": "195"}},
        lambda value: {**value, "files": {"etc/x": ""}},
        lambda value: {**value, "files": {"/etc/../x\0": ""}},
        lambda value: {**value, "gpus": {"../..": None}},
        lambda value: {**value, "nodes": [{**value["nodes"][0], "path": "/etc/x"}]},
        lambda value: {**value, "nodes": [{**value["nodes"][0], "mode": 0o4777}]},
        lambda value: {**value, "nodes": [{**value["nodes"][0], "minor": 1 << 40}]},
        lambda value: {**value, "nodes": [{"path": "/dev/x"}]},
        lambda value: {**value, "rules": [{}]},
        lambda value: {**value, "rules": None},
        lambda value: {name: value[name] for name in value if name != "instance"},
    ],
)
def test_what_is_none(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(ValueError):
        parse_recorded_state(change(recorded_state_value(STATE)))


def test_the_record(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "nvidia")
    assert read_recorded_state(driver) is None
    assert write_recorded_state(driver, STATE)
    assert not write_recorded_state(driver, STATE)
    assert read_recorded_state(driver) == STATE
    driver.recorded_state.write_text("{")
    assert read_recorded_state(driver) is None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All is as in STATE."""
    sys = FakeSys(tmp_path)
    sys.device(GPU, driver="nvidia")
    sys.device("0000:00:02.0", "8086:1234")
    for name in ("nvidia", "nvidia_uvm"):
        write(tmp_path / f"sys/module/{name}/initstate", "live\n")
    write(tmp_path / "sys/module/nvidia/srcversion", "S1\n")
    write(
        tmp_path / "sys/module/firmware_class/parameters/path",
        "/opt/drivers/.nvidia/g/firmware\0",
    )
    write(tmp_path / "proc/devices", DEVICES)
    write(tmp_path / "etc/modprobe.d/modulus-nvidia.conf", "blacklist x\n")
    for node in STATE.nodes[:2]:
        path = tmp_path / node.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(path, 0o020000, os.makedev(node.major, node.minor))
        path.chmod(node.mode)
        link(tmp_path / f"dev/char/{node.major}:{node.minor}", f"..{node.path[4:]}")
    return tmp_path


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")


@needs_root
def test_nothing_is_wrong(root: Path) -> None:
    assert drift(root, STATE) == ()


def _write(path: str, text: str) -> Change:
    return lambda root: write(root / path, text)


def _unlink(path: str) -> Change:
    return lambda root: (root / path).unlink()


def _replace(path: str, target: str | None = None) -> Change:
    """By an empty file, or a link."""

    def change(root: Path) -> None:
        (root / path).unlink()
        if target is None:
            (root / path).touch()
        else:
            (root / path).symlink_to(target)

    return change


def _remove(path: str) -> Change:
    return lambda root: shutil.rmtree(root / path)


@needs_root
@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (_unlink("dev/nvidia0"), ["/dev/nvidia0 is missing"]),
        (_remove("dev/nvidia-caps"), ["/dev/nvidia-caps/nvidia-cap1 is missing"]),
        (_write("dev/nvidia-caps/nvidia-cap2", ""), []),
        (
            lambda root: (root / "dev/nvidia0").chmod(0o600),
            ["/dev/nvidia0 is wrong: mode 0600 instead of 0666"],
        ),
        (
            _replace("dev/nvidia0"),
            ["/dev/nvidia0 is wrong: a regular file is there"],
        ),
        (_unlink("dev/char/1:5"), ["/dev/char/1:5 is missing"]),
        (_replace("dev/char/1:5", "../x"), ["/dev/char/1:5 leads to ../x"]),
        (_remove("sys/module/nvidia_uvm"), ["the module nvidia_uvm is not loaded any more"]),
        (
            _write("sys/module/nvidia_uvm/initstate", "going"),
            ["the module nvidia_uvm is not loaded any more"],
        ),
        (
            _write("sys/module/nvidia_drm/initstate", "live"),
            ["the module nvidia_drm was loaded"],
        ),
        (
            _write("sys/module/nvidia/srcversion", "S2"),
            ["another build of the module nvidia is loaded"],
        ),
        (
            _write("proc/devices", DEVICES.replace("243", "241")),
            ["the device number of nvidia-uvm is 241 instead of 243"],
        ),
        (
            _write("proc/devices", "Character devices:\n195 nvidia\n"),
            ["the device number of nvidia-uvm is gone instead of 243"],
        ),
        (
            _write("proc/devices", DEVICES.replace("243", "240 nvidia-caps\n243")),
            ["the device number of nvidia-caps is 240 instead of none"],
        ),
        (
            _unlink("etc/modprobe.d/modulus-nvidia.conf"),
            ["/etc/modprobe.d/modulus-nvidia.conf is missing"],
        ),
        (
            _write("etc/modprobe.d/modulus-nvidia.conf", "# mine\n"),
            ["/etc/modprobe.d/modulus-nvidia.conf is changed"],
        ),
        (
            _write("sys/module/firmware_class/parameters/path", "\0"),
            [
                "firmware_class.path is empty instead of /opt/drivers/.nvidia/g/firmware",
            ],
        ),
        (_remove("sys/module/firmware_class"), []),
        (_unlink(f"sys/bus/pci/devices/{GPU}"), [f"GPU {GPU} is gone"]),
        (
            lambda root: FakeSys(root).device("0000:00:06.0"),
            ["GPU 0000:00:06.0 is new, its driver is none"],
        ),
        (
            _unlink(f"sys/devices/pci0000:00/{GPU}/driver"),
            [f"GPU {GPU} has the driver none instead of nvidia"],
        ),
    ],
)
def test_what_is_wrong(root: Path, change: Change, lines: list[str]) -> None:
    change(root)
    assert drift(root, STATE) == tuple(lines)


@needs_root
def test_what_is_not_wanted_is_not_looked_for(root: Path) -> None:
    (root / "sys/module/firmware_class/parameters/path").write_text("/elsewhere")
    (root / f"sys/bus/pci/devices/{GPU}").unlink()
    assert drift(root, replace(STATE, firmware=None, pci=(), gpus={})) == ()
