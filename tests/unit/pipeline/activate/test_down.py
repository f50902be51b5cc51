"""``down`` from end to end: all that was made goes, unless it is in use, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modulus.host.files.lock import locked
from modulus.host.report.reporter import PlainReporter
from tests.support.fakedriver import NODES, FakeNode, fake_node
from tests.support.headertrees import write
from tests.support.takedown import files, take_down

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

GONE = ["rmmod gpu_uvm", "rmmod gpu", "ldconfig"]
Change = Callable[[FakeNode], object]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


@pytest.fixture
def running(node: FakeNode) -> FakeNode:
    """The node with its driver at work."""
    assert node.run("up", "gpu-1.0") == 0
    node.ran()
    return node


def test_all_that_was_made_goes(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(node)
    node.run("up", "gpu-1.0")
    generation = os.readlink(node.link)
    node.ran()
    done = take_down(node, capsys)
    assert done["code"] == 0
    assert done["removed"][:2] == ["module gpu_uvm", "module gpu"]
    assert set(done["removed"][2:]) == {
        *(f"/dev/{name}" for name in NODES),
        "/dev/char/195:0",
        "/dev/char/195:255",
        "/dev/char/243:0",
        "/run/modulus/gpu",
        f"firmware_class.path /opt/drivers/{generation}/firmware",
        "/etc/modprobe.d/modulus-gpu.conf",
        "/etc/ld.so.conf.d/modulus-gpu.conf",
        "/opt/drivers/gpu",
        "/opt/drivers/.gpu",
        "/var/lib/modulus/gpu",
    }
    assert node.ran() == GONE
    assert (node.loaded(), node.nodes(), node.firmware_path()) == ({}, {}, "")
    assert files(node) == before
    assert b"libgpu" not in (node.root / "etc/ld.so.cache").read_bytes()
    # The cache is for the next time.
    assert node.run("up", "gpu-1.0") == 0


def test_what_is_gone_is_not_taken_down_again(
    running: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert take_down(running, capsys)["code"] == 0
    running.ran()
    before = running.everything()
    assert take_down(running, capsys) == {"removed": [], "code": 0}
    assert running.ran() == []
    assert running.everything() == before
    running.run("down", "gpu-1.0")
    assert capsys.readouterr().out == "down: gpu-1.0 was not up\n"


def hold_library(node: FakeNode) -> None:
    """As a container has it mapped."""
    line = "7f00-7f01 r-xp 0 fd:01 1 /opt/drivers/.gpu/x/lib/libgpu.so.1.0\n"
    node.sys.process(4242, "python3 train.py", maps=line)


@pytest.mark.parametrize(
    ("use", "who"),
    [
        (
            lambda node: node.sys.process(4242, "python3 train.py", "/dev/gpu0"),
            "in use by process 4242 (python3 train.py)",
        ),
        (
            lambda node: node.sys.process(4242, "", "/dev/gpu-uvm", comm="worker"),
            "in use by process 4242 ([worker])",
        ),
        (hold_library, "in use by process 4242 (python3 train.py)"),
        (lambda node: node.sys.module("gpu", 2, "peer_driver"), "in use by module peer_driver"),
        (lambda node: node.sys.module("gpu_uvm", 3), "in use: 3 references to gpu_uvm"),
    ],
    ids=["process", "kernel thread", "library", "module", "references"],
)
def test_a_driver_in_use_stays_whole(
    running: FakeNode, capsys: pytest.CaptureFixture[str], use: Change, who: str
) -> None:
    use(running)
    before = running.everything()
    done = take_down(running, capsys)
    assert (done["code"], done["error"]["code"]) == (17, 17)
    assert done["error"]["message"] == f"gpu-1.0 is {who}"
    assert "systemctl disable modulus@gpu-1.0" in done["error"]["hint"]
    assert running.everything() == before
    assert running.ran() == []


class Systemd:
    """Units that stop when they are told to; ``stopped`` are those that were."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    def __call__(self) -> Systemd:
        return self

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stop_unit(self, name: str, _seconds: float) -> None:
        self.stopped.append(name)


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    systemd = Systemd()
    monkeypatch.setattr("modulus.host.bus.endpoint.available", lambda _root: True)
    monkeypatch.setattr("modulus.pipeline.activate.down.Systemd", systemd)
    return systemd


def test_the_unit_of_a_driver_in_use_runs_on(
    running: FakeNode, capsys: pytest.CaptureFixture[str], systemd: Systemd
) -> None:
    running.sys.process(4242, "python3", "/dev/gpu0")
    before = running.everything()
    assert take_down(running, capsys)["code"] == 17
    assert (systemd.stopped, running.everything()) == ([], before)
    shutil.rmtree(running.root / "proc/4242")
    assert take_down(running, capsys)["code"] == 0
    assert systemd.stopped == ["modulus@gpu-1.0.service", "modulus-build@gpu-1.0.service"]


def test_what_starts_the_driver_is_stopped_though_it_uses_it(
    running: FakeNode, capsys: pytest.CaptureFixture[str], systemd: Systemd
) -> None:
    running.sys.process(4242, "modprobe", "/dev/gpu0")
    with locked(running.root / "run/modulus/locks/up-gpu", "it", PlainReporter(), 0):
        assert take_down(running, capsys, "--lock-timeout", "0")["code"] == 20
    assert systemd.stopped == ["modulus@gpu-1.0.service", "modulus-build@gpu-1.0.service"]


@pytest.mark.parametrize("text", ["modules: 3\nno_such: 1\n", "a: [\n"])
def test_a_mistake_in_the_settings_keeps_no_driver(
    running: FakeNode, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write(running.root / "etc/modulus/modulus.yaml", text)
    assert running.run("down", "gpu-1.0", "--set", "nonsense") == 0
    told = capsys.readouterr().err
    assert "warning: " in told
    assert "modulus.yaml" in told
    assert (running.loaded(), running.nodes()) == ({}, {})


@pytest.mark.parametrize("text", [None, "a: [\n", "name: gpu\n"])
def test_without_its_profile_nobody_knows_what_a_driver_is(
    running: FakeNode,
    capsys: pytest.CaptureFixture[str],
    systemd: Systemd,
    text: str | None,
) -> None:
    profile = running.root / "etc/modulus/profiles/gpu.yaml"
    profile.unlink()
    if text:
        write(profile, text)
    before = running.everything()
    assert take_down(running, capsys)["code"] == 10
    assert (systemd.stopped, running.everything()) == ([], before)


def test_it_goes_once_nothing_uses_it(
    running: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    running.sys.process(4242, "python3", "/dev/gpu0")
    assert take_down(running, capsys)["code"] == 17
    shutil.rmtree(running.root / "proc/4242")
    assert take_down(running, capsys)["code"] == 0
    assert running.ran() == GONE
