"""``rollback``: back to what worked before, as carefully as to what is new."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fakedriver import FakeNode, fake_node
from tests.support.headertrees import write
from tests.support.switching import (
    active_name,
    at_work,
    command,
    condemn,
    generation_of,
    good,
    kept,
    selected,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


def prepare(node: FakeNode) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.stock("2.0")
    assert node.run("up", "gpu-2.0") == 0
    node.forget_builds()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], FakeNode]]:
    with kept(tmp_path_factory.mktemp("rollback"), prepare) as fresh:
        yield fresh


@pytest.fixture
def node(fresh: Callable[[], FakeNode]) -> FakeNode:
    """With 2.0 at work, and 1.0 before it; the store is gone."""
    return fresh()


def test_it_goes_back_and_back_again(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(node, capsys, "rollback")
    assert (done["code"], done["instance"], done["phase"], done["warm"]) == (
        0,
        "gpu-1.0",
        "ready",
        True,
    )
    assert (at_work(node), selected(node), good(node)[0]) == ("1.0", "gpu-1.0", "gpu-1.0")
    state = node.state("gpu-1.0")
    assert (state["phase"], state["active"], state["generation"]) == (
        "ready",
        True,
        done["generation"],
    )
    assert command(node, capsys, "up", "gpu-1.0")["changed"] is False
    assert node.run("rollback", "gpu") == 0
    assert capsys.readouterr().out.startswith("installed: /opt/drivers/gpu is 2.0-")
    assert (at_work(node), selected(node)) == ("2.0", "gpu-2.0")


def test_one_with_condemned_modules_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for node in fake_node(tmp_path, monkeypatch):
        for version in ("1.0", "2.0", "3.0"):
            node.stock(version)
            assert node.run("up", f"gpu-{version}") == 0
        condemn(node, "2.0")
        done = command(node, capsys, "rollback")
        assert (done["code"], at_work(node)) == (0, "1.0")
        assert "condemned" not in done["said"]


def test_in_use_it_is_for_the_next_boot(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.sys.process(4242, "python3", "/dev/gpu0")
    done = command(node, capsys, "rollback")
    assert (done["code"], at_work(node), selected(node)) == (17, "2.0", "gpu-1.0")
    assert "process 4242 (python3): gpu-1.0 takes its place" in done["error"]["message"]
    node.reboot()
    assert command(node, capsys, "up", "gpu-1.0")["warm"]
    assert at_work(node) == "1.0"


def test_what_works_no_more_gives_way_to_what_did(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.refuses("gpu", "1.0")
    done = command(node, capsys, "rollback")
    assert (done["code"], at_work(node), selected(node)) == (21, "2.0", "gpu-2.0")


def test_where_nothing_is_loaded_it_starts_it(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.reboot()
    assert command(node, capsys, "rollback")["code"] == 0
    assert at_work(node) == "1.0"


def test_without_a_gpu_it_has_nothing_to_do(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.reboot()
    (node.root / "sys/bus/pci/devices/0000:00:05.0").unlink()
    assert command(node, capsys, "rollback")["code"] == 18
    assert (active_name(node)[:3], selected(node)) == ("2.0", "gpu-2.0")


def test_the_unit_that_the_next_boot_starts_is_told(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    wants = node.root / "etc/systemd/system/multi-user.target.wants"
    write(wants / "modulus@gpu-2.0.service", "")
    write(wants / "modulus@other-1.0.service", "")
    done = command(node, capsys, "rollback")
    assert "modulus@gpu-1.0 is not enabled: the next boot starts gpu-2.0" in done["said"]
    assert "is not enabled" not in command(node, capsys, "rollback")["said"]


@pytest.mark.parametrize("case", ["damaged", "kernel", "gone"])
def test_there_may_be_nothing_to_go_back_to(
    node: FakeNode, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    if case == "damaged":
        (generation_of(node, "1.0") / "bin/gpu-tool").unlink()
    elif case == "kernel":
        node.reboot("#2 SMP")
    else:
        generation_of(node, "1.0").rename(node.root / "gone")
    before = node.loaded()
    done = command(node, capsys, "rollback")
    assert (done["code"], node.loaded(), selected(node)) == (2, before, "gpu-2.0")
    assert "no other generation of gpu has worked on kernel 6.1.0-9" in done["error"]["message"]
    assert ("is damaged: bin/gpu-tool" in done["said"]) is (case == "damaged")


def test_the_driver_must_be_known(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    record = node.root / "var/lib/modulus/gpu/good.json"
    write(node.root / "var/lib/modulus/v4l/good.json", record.read_text())
    done = command(node, capsys, "rollback")
    assert (done["code"], "gpu, v4l" in done["error"]["message"]) == (2, True)
    for path in (node.root / "var/lib/modulus").glob("*/good.json"):
        path.unlink()
    done = command(node, capsys, "rollback")
    assert (done["code"], done["error"]["message"]) == (2, "no driver has worked here yet")


def test_what_the_settings_will_undo_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two generations of one instance, with the same modules: nothing is unloaded for that."""
    for node in fake_node(tmp_path, monkeypatch):
        assert node.run("up", "gpu-1.0") == 0
        node.configure(components=["compute", "utility"])
        assert node.run("up", "gpu-1.0") == 0
        second = active_name(node)
        node.ran()
        done = command(node, capsys, "rollback")
        assert (done["code"], done["generation"] != second) == (0, True)
        assert "the settings ask for another generation of gpu-1.0" in done["said"]
        assert not {"rmmod gpu", "modprobe gpu"} & set(node.ran())
