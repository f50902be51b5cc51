"""A boot on which the wanted generation does not work: the last good one takes its place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.fakedriver import FakeNode
from tests.support.headertrees import write
from tests.support.switching import (
    active_name,
    at_work,
    command,
    condemn,
    generation_of,
    good,
    half_dead,
    kept,
    selected,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

Change = Callable[[FakeNode], object]


def prepare(node: FakeNode) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.stock("2.0")
    assert node.run("up", "gpu-2.0") == 0
    node.reboot()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], FakeNode]]:
    with kept(tmp_path_factory.mktemp("fallback"), prepare) as fresh:
        yield fresh


@pytest.fixture
def node(fresh: Callable[[], FakeNode]) -> FakeNode:
    """Booted with 2.0 selected, which worked before, as did 1.0."""
    return fresh()


@pytest.mark.parametrize(
    "change",
    [lambda node: node.refuses("gpu-uvm", "2.0"), lambda node: half_dead(node, "2.0")],
    ids=["load", "verify"],
)
def test_the_last_good_one_takes_its_place(
    node: FakeNode, capsys: pytest.CaptureFixture[str], change: Change
) -> None:
    change(node)
    write(node.root / "etc/systemd/system/multi-user.target.wants/modulus@gpu-2.0.service", "")
    done = command(node, capsys, "up", "gpu-2.0")
    assert done["code"] == 21
    assert done["error"]["message"].startswith("gpu-2.0 does not work: ")
    assert done["error"]["message"].endswith("; gpu-1.0 is back, loaded and verified")
    assert "modulus@gpu-1.0 is not enabled: the next boot starts gpu-2.0" in done["said"]
    assert (at_work(node), selected(node)) == ("1.0", "gpu-1.0")
    assert good(node) == ["gpu-1.0", "gpu-2.0"]
    assert command(node, capsys, "up", "gpu-1.0")["changed"] is False


@pytest.mark.parametrize(
    ("condemned", "back"), [(["2.0"], "1.0"), (["1.0", "2.0"], "2.0")], ids=["one", "both"]
)
def test_one_with_condemned_modules_is_taken_last_and_told_of(
    node: FakeNode, capsys: pytest.CaptureFixture[str], condemned: list[str], back: str
) -> None:
    node.stock("3.0")
    node.refuses("gpu-uvm", "3.0")
    for version in condemned:
        condemn(node, version)
    done = command(node, capsys, "up", "gpu-3.0")
    assert (done["code"], at_work(node)) == (21, back)
    told = f"the modules of {active_name(node)} are condemned: " in done["said"]
    assert told is (back in condemned)


def test_it_may_be_turned_off(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.refuses("gpu", "2.0")
    node.configure(auto_fallback=False)
    assert command(node, capsys, "up", "gpu-2.0")["code"] == 16
    assert (node.loaded(), selected(node), active_name(node)[:3]) == ({}, "gpu-2.0", "2.0")


def test_a_good_one_that_is_damaged_is_passed_over(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.refuses("gpu", "2.0")
    (generation_of(node, "1.0") / "bin/gpu-tool").unlink()
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], node.loaded(), selected(node)) == (16, {}, "gpu-2.0")
    assert "does not work: bin/gpu-tool is gone" in done["said"]


def test_what_keeps_all_of_them_from_working_is_not_the_generations_fault(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    write(node.root / "dev/gpu0", "mine\n")
    done = command(node, capsys, "up", "gpu-2.0")
    assert done["code"] == 19
    assert done["error"]["message"].startswith("/dev/gpu0 cannot be made")
    # It is loaded all the same, as without others.
    assert (node.loaded(), selected(node)) == ({"gpu": "2.0", "gpu_uvm": "2.0"}, "gpu-2.0")
    assert active_name(node)[:3] == "2.0"
    node.ran()
    # What is loaded already is left as it is.
    assert command(node, capsys, "up", "gpu-2.0")["code"] == 19
    assert node.ran() == []


def test_another_driver_on_the_gpus_is_no_reason(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.sys.module("rival", 1)
    node.sys.bind("0000:00:05.0", "rival")
    done = command(node, capsys, "up", "gpu-2.0")
    # No module is loaded.
    assert (done["code"], node.ran(), active_name(node)[:3]) == (17, [], "2.0")


def test_a_gpu_that_does_not_start_may_with_the_one_that_worked(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new version, or its firmware, may be what does not start it."""
    node.says("gpu", "gpu 0000:00:05.0: it does not answer")
    node.refuses("gpu", "2.0", "No such device")
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], selected(node)) == (21, "gpu-1.0")
    assert "a GPU does not answer" in done["said"]


def test_on_a_kernel_where_none_worked_there_is_nothing_to_go_back_to(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.reboot("#2 SMP")
    node.refuses("gpu", "2.0")
    assert command(node, capsys, "up", "gpu-2.0")["code"] == 16
    assert (node.loaded(), selected(node)) == ({}, "gpu-2.0")


def test_what_cannot_be_had_is_stood_in_for(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next try finds a driver at work, and may switch."""
    write(node.root / "var/lib/modulus/gpu/selected", "gpu-3.0\n")
    done = command(node, capsys, "up", "gpu-3.0")
    assert done["code"] == 11
    assert "until it can, the driver is 2.0-6.1.0-9-amd64-" in done["said"]
    assert (at_work(node), selected(node)) == ("2.0", "gpu-3.0")
    node.ran()
    assert command(node, capsys, "up", "gpu-3.0")["code"] == 11
    assert node.ran() == []
    node.stock("3.0")
    assert command(node, capsys, "up", "gpu-3.0")["code"] == 0
    assert at_work(node) == "3.0"
