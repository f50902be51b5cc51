"""``up --repair`` after a real ``up``: all is real but the kernel and its tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.host.files.lock import locked
from modulus.host.report.reporter import PlainReporter
from tests.support.fakedriver import GPU, FakeNode, fake_node
from tests.support.fakesys import PCI
from tests.support.headertrees import write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

CONFIG = "etc/modprobe.d/modulus-gpu.conf"
LINKER = "etc/ld.so.conf.d/modulus-gpu.conf"
FIRMWARE = "sys/module/firmware_class/parameters/path"
Change = Callable[[FakeNode], object]


@pytest.fixture
def node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[FakeNode]:
    """A driver at work."""
    for made in fake_node(tmp_path, monkeypatch):
        assert made.run("up", "gpu-1.0") == 0
        made.ran()
        capsys.readouterr()
        yield made


def repair(
    node: FakeNode, capsys: pytest.CaptureFixture[str], *words: str, instance: str = "gpu-1.0"
) -> Any:
    """The value that ``up --repair --json`` prints, its exit code and what it said besides."""
    code = node.run("up", instance, "--repair", "--json", *words)
    output = capsys.readouterr()
    return json.loads(output.out) | {"code": code, "said": output.err.splitlines()}


def put_right(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a repair said, after which another one finds nothing to do."""
    done = repair(node, capsys)
    assert (done["code"], done["error"]) == (0, None)
    before = node.everything()
    again = repair(node, capsys)
    assert (again["code"], again["wrong"], again["said"]) == (0, [], [])
    assert node.everything() == before
    said: list[str] = done["said"]
    return said


def test_what_is_right_is_left_alone(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    before = node.everything()
    assert put_right(node, capsys) == []
    assert node.everything() == before
    assert node.run("up", "gpu-1.0", "--repair") == 0
    assert capsys.readouterr().out == "unchanged: gpu-1.0 is right\n"
    # While somebody else is at work it waits.
    lock = node.root / "run/modulus/locks/up-gpu"
    with locked(lock, "the driver gpu", PlainReporter(), None):
        assert repair(node, capsys, "--lock-timeout", "0")["code"] == 20
    # For one that is not the one at work there is nothing to do.
    other = repair(node, capsys, instance="gpu-2.0")
    assert (other["code"], other["error"]["message"]) == (
        19,
        "gpu-2.0 is not what is to be kept right: gpu-1.0 is at work",
    )
    record = json.loads((node.root / "run/modulus/gpu/wanted.json").read_text())
    assert record["needed"] == ["gpu", "gpu_uvm"]
    assert record["modules"] == {"gpu": "S1.0-gpu", "gpu_uvm": "S1.0-gpu-uvm"}
    assert record["gpus"] == {GPU: "gpu"}
    assert record["firmware"] == node.firmware_path()
    assert sorted(record["files"]) == [f"/{LINKER}", f"/{CONFIG}"]


def _unlink(*paths: str) -> Change:
    def change(node: FakeNode) -> None:
        for path in paths:
            (node.root / path).unlink()

    return change


def _write(path: str, text: str) -> Change:
    return lambda node: write(node.root / path, text)


WRONG: tuple[tuple[Change, list[str]], ...] = (
    (_unlink("dev/gpu0"), ["nodes: /dev/gpu0 made: it was missing"]),
    (
        _unlink("dev/gpuctl", "dev/char/195:255"),
        [
            "nodes: /dev/gpuctl made: it was missing",
            "nodes: /dev/char/195:255 made: it was missing",
        ],
    ),
    (
        lambda node: shutil.rmtree(node.root / "dev/char"),
        [
            f"nodes: /dev/char/{number} made: it was missing"
            for number in ("195:255", "195:0", "243:0")
        ],
    ),
    (
        lambda node: (node.root / "dev/gpu0").chmod(0o600),
        ["nodes: /dev/gpu0 replaced: mode 0600 instead of 0666"],
    ),
    (
        _write(FIRMWARE, "\0"),
        [
            "install: put right: firmware_class.path is empty instead of FIRMWARE",
            "load: firmware is looked for in FIRMWARE",
        ],
    ),
    (_unlink(CONFIG), [f"install: put right: /{CONFIG} is missing"]),
    (_write(CONFIG, "# mine\n"), [f"install: put right: /{CONFIG} is changed"]),
    (_unlink(LINKER), [f"install: put right: /{LINKER} is missing"]),
)


def test_what_is_wrong_is_put_right_and_told(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    firmware, nodes = node.firmware_path(), node.nodes()
    texts = {path: (node.root / path).read_text() for path in (CONFIG, LINKER)}
    for change, said in WRONG:
        change(node)
        lines = [line.replace("FIRMWARE", firmware) for line in said]
        assert put_right(node, capsys) == lines
        assert node.nodes() == nodes
        assert node.firmware_path() == firmware
        assert texts == {path: (node.root / path).read_text() for path in texts}
        assert node.ran() == []


def test_a_module_that_was_loaded_again_with_another_number(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = node.root / "proc/devices"
    devices.write_text(devices.read_text().replace("243 ", "241 "))
    assert put_right(node, capsys) == [
        "verify: the device number of gpu-uvm is 241 instead of 243",
        "nodes: /dev/gpu-uvm replaced: major 243 instead of 241",
        "nodes: /dev/char/241:0 made: it was missing",
        "nodes: /dev/char/243:0 removed: leads to /dev/gpu-uvm, which has another number",
    ]
    assert node.nodes()["gpu-uvm"] == (241, 0)


def test_gpus_that_come_and_go(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    second = "0000:00:06.0"
    node.sys.device(second, driver="gpu")
    write(node.root / f"proc/driver/gpu/gpus/{second}/information", "Device Minor: 1\n")
    assert put_right(node, capsys) == [
        "nodes: /dev/gpu1 made: it was missing",
        "nodes: /dev/char/195:1 made: it was missing",
        f"modulus: warning: GPU {second} is new, its driver is gpu",
    ]
    (node.root / "sys/bus/pci/devices" / GPU).unlink()
    shutil.rmtree(node.root / PCI / GPU)
    shutil.rmtree(node.root / f"proc/driver/gpu/gpus/{GPU}")
    assert put_right(node, capsys) == [
        "nodes: /dev/gpu0 removed: no device has 195:0",
        "nodes: /dev/char/195:0 removed: leads to /dev/gpu0, which has another number",
        f"verify: GPU {GPU} is gone: it was unplugged, or has left the bus; see the kernel's "
        "log (journalctl -k -b)",
    ]
    assert sorted(node.nodes()) == ["gpu-uvm", "gpu1", "gpuctl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda node: subprocess.run(
                ["sh", "-c", f"{node.tools}/rmmod gpu_uvm"], check=True
            ),
            "the module gpu_uvm is not loaded any more",
        ),
        (
            _write("sys/module/gpu/srcversion", "other\n"),
            "the module gpu is loaded as another build",
        ),
        (
            _unlink("run/modulus/gpu/wanted.json"),
            "gpu-1.0 is not what is to be kept right: no driver is known to be at work",
        ),
    ],
)
def test_what_takes_a_whole_up(
    node: FakeNode, capsys: pytest.CaptureFixture[str], change: Change, message: str
) -> None:
    change(node)
    (node.root / "dev/gpu0").unlink()
    done = repair(node, capsys)
    hint = "run modulus up gpu-1.0"
    assert (done["code"], done["error"]) == (19, {"code": 19, "message": message, "hint": hint})
    assert "gpu0" not in node.nodes(), "it is for up to see what is to be there"
    assert node.run("up", "gpu-1.0") == (0 if "another" not in message else 17)


def test_what_cannot_be_put_right(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    (node.root / "dev/gpu0").unlink()
    write(node.root / "dev/gpu0", "")
    (node.root / "dev/gpuctl").unlink()
    done = repair(node, capsys)
    assert done["code"] == 19
    assert done["error"]["message"].startswith("/dev/gpu0 cannot be made: a regular file")
    assert "gpuctl" in node.nodes(), "the rest is put right all the same"


def test_nodes_that_the_driver_wants_left_alone(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.params(modify=0)
    shutil.copy(node.tools / "params", node.root / "proc/driver/gpu/params")
    (node.root / "dev/gpuctl").unlink()
    done = repair(node, capsys)
    assert done["code"] == 0
    assert "gpuctl" not in node.nodes()
    assert any("/dev/gpuctl is missing" in line for line in done["said"])


def test_nothing_heavy_is_loaded() -> None:
    """The bar is a node that is right again within two seconds, where Python is slow."""
    code = (
        "import sys, json, modulus.cli, modulus.cli.parser, modulus.cli.commands.repair;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(json.loads(done.stdout))
    assert "modulus.pipeline.activate.repair" in modules
    heavy = {"sh", "requests", "yaml", "jinja2", "gi", "pydbus", "ctypes"}
    heavy |= {f"modulus.{name}" for name in ("core.profile", "host.config", "pipeline.node")}
    assert modules.isdisjoint(heavy)
