"""Down leaves what others have, and ends clean whatever comes between."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from modulus.host.files.lock import locked
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.activate.down import down
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import NODES, RELEASE, FakeNode, fake_node
from tests.support.fakepackage import driver_module
from tests.support.headertrees import link, write
from tests.support.kill import killed_at
from tests.support.quiet import QUIET
from tests.support.takedown import files, take_down

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

GONE = ["rmmod gpu_uvm", "rmmod gpu", "ldconfig"]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


@pytest.fixture
def running(node: FakeNode) -> FakeNode:
    """The node with its driver at work."""
    assert node.run("up", "gpu-1.0") == 0
    node.ran()
    return node


def test_a_module_that_the_kernel_keeps_keeps_the_rest(
    running: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    write(running.tools / "gpu.fail", "rmmod: ERROR: Module gpu is in use\n")
    done = take_down(running, capsys)
    assert done["code"] == 17
    assert "gpu was not unloaded: " in done["error"]["message"]
    assert tuple(running.nodes()) == NODES
    assert running.module("gpu").is_file()
    (running.tools / "gpu.fail").unlink()
    done = take_down(running, capsys)
    assert (done["code"], done["removed"][0]) == (0, "module gpu")
    assert running.loaded() == {}


def test_modules_that_came_with_the_driver_go_before_it(
    running: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    """The profile names another package's module that works with the driver's."""
    running.sys.module("gpu_extra", 0)
    link(running.root / "sys/module/gpu/holders/gpu_extra", "../../gpu_extra")
    write(running.root / "sys/module/gpu/refcnt", "2\n")
    tool = running.tools / "rmmod"
    extra = "[ $1 != gpu_extra ] || rm $root/sys/module/gpu/holders/gpu_extra\n"
    tool.write_text(tool.read_text() + extra)
    done = take_down(running, capsys)
    assert (done["code"], running.ran()) == (0, ["rmmod gpu_extra", *GONE])


def test_another_instance_is_left_alone(
    running: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    running.stock("2.0")
    running.refuses("gpu", "2.0")
    assert running.run("up", "gpu-2.0") == 21
    assert running.state("gpu-2.0")["phase"] == "failed"
    running.ran()
    before = running.everything()
    assert take_down(running, capsys, instance="gpu-2.0") == {"removed": [], "code": 0}
    assert running.state("gpu-2.0") is None
    after = running.everything()
    for path in ("gpu-2.0.json", "builds/gpu-2.0.json"):
        del before[f"run/modulus/{path}"]
    assert after == before
    assert running.ran() == []


def test_modules_that_others_loaded_are_theirs(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    """A distribution's own driver, on a node where Modulus never started one."""
    node.sys.module("gpu", 0)
    write(node.root / "sys/module/gpu/version", "1.0\n")
    before = node.everything()
    assert take_down(node, capsys) == {"removed": [], "code": 0}
    assert node.ran() == []
    after = node.everything()
    new = {path for path in after.keys() - before.keys() if not path.startswith("run/modulus")}
    assert new == set()
    assert {path: after[path] for path in before} == before


def test_files_of_others_stay(running: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = {
        "dev/gpu0": "a file\n",
        "dev/gpu-other": "a file\n",
        "etc/modprobe.d/modulus-gpu.conf": "# mine\n",
        "etc/modprobe.d/gpu.conf": "# mine\n",
        "etc/ld.so.conf.d/gpu.conf": "/opt/other\n",
        "opt/drivers/other/lib/libgpu.so.1": "",
        "var/lib/modulus/other/selected": "other-1.0\n",
        "run/modulus/other-1.0.json": "{}\n",
    }
    (running.root / "dev/gpu0").unlink()
    for path, text in theirs.items():
        write(running.root / path, text)
    write(running.root / "sys/module/firmware_class/parameters/path", "/srv/firmware")
    file = running.root / "lib/modules" / RELEASE / "updates/gpu.ko"
    file.parent.mkdir()
    file.write_bytes(driver_module("gpu", "1.5"))
    assert take_down(running, capsys)["code"] == 0
    assert {path: (running.root / path).read_text() for path in theirs} == theirs
    assert running.firmware_path() == "/srv/firmware"
    assert file.exists()


def test_a_driver_that_wants_its_nodes_left_alone_keeps_them(
    running: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    running.params(modify=0)
    shutil.copy(running.tools / "params", running.root / "proc/driver/gpu/params")
    assert take_down(running, capsys)["code"] == 0
    assert set(running.nodes()) == {"gpu0", "gpuctl"}


def test_what_was_only_put_in_its_place_goes_too(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(node)
    assert node.run("up", "gpu-1.0", "--no-load") == 0
    node.ran()
    assert take_down(node, capsys)["code"] == 0
    assert node.ran() == ["ldconfig"]
    assert files(node) == before


@pytest.mark.parametrize("lost", ["generation.json", ""], ids=["manifest", "generation"])
def test_a_generation_that_is_damaged_goes_too(
    running: FakeNode, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    target = running.link.resolve() / lost
    target.unlink() if lost else shutil.rmtree(target)
    shutil.rmtree(running.root / "var/lib/modulus/gpu")
    assert take_down(running, capsys)["code"] == 0
    assert running.loaded() == {}
    assert not os.path.lexists(running.link)


def test_it_waits_for_one_that_starts_the_driver(
    running: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    before = running.everything()
    with locked(running.root / "run/modulus/locks/up-gpu", "it", PlainReporter(), 0):
        done = take_down(running, capsys, "--lock-timeout", "0")
    assert (done["code"], running.ran()) == (20, [])
    assert running.everything() == before


def test_killed_at_any_point_it_ends_clean_the_next_time(running: FakeNode) -> None:
    def work() -> None:
        site = Site(running.root, None, (), 0)
        down(Node(site, Instance("gpu", "1.0")), QUIET)

    def restore() -> None:
        shutil.rmtree(running.root)
        subprocess.run(["cp", "-a", kept, running.root], check=True)

    running.forget_builds()
    kept = running.root.with_name("kept")
    running.root.rename(kept)
    running.root.mkdir()
    restore()
    work()
    clean = set(running.everything())
    restore()
    step, left, seen = 1, None, 0
    while killed_at(step, work):
        before, left = left, (running.everything().keys(), running.firmware_path())
        if left != before:
            seen += 1
            work()
            assert set(running.everything()) == clean, f"killed at step {step}"
            assert (running.loaded(), running.firmware_path()) == ({}, "")
            assert b"libgpu" not in (running.root / "etc/ld.so.cache").read_bytes()
        restore()
        step += 1
    # A module, a node, a link, a file: each of them went by itself.
    assert seen > 15
