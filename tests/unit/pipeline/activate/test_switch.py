"""One version in the place of another: never without one that works, whatever goes wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modulus.core.kernel.elf import ModuleInfo
from modulus.pipeline.activate.verify import look
from tests.support.fakedriver import FakeNode
from tests.support.headertrees import write
from tests.support.switching import (
    active_name,
    at_work,
    command,
    generation_of,
    good,
    half_dead,
    kept,
    selected,
    when_loaded,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

UNLOAD = ["rmmod gpu_uvm", "rmmod gpu"]
LOAD = ["modprobe gpu", "modprobe gpu-uvm"]
Change = Callable[[FakeNode], object]


def prepare(node: FakeNode) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.stock("2.0")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], FakeNode]]:
    with kept(tmp_path_factory.mktemp("switch"), prepare) as fresh:
        yield fresh


@pytest.fixture
def node(fresh: Callable[[], FakeNode]) -> FakeNode:
    """With 1.0 at work, and 2.0 in the store."""
    return fresh()


def test_another_version_takes_the_place_of_the_one_that_is_loaded(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    first = active_name(node)
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], done["phase"], done["changed"]) == (0, "ready", True)
    ran = node.ran()
    # What could still be found wrong is, while the old one is at work.
    assert ran[: ran.index("rmmod gpu") + 1] == ["depmod", *UNLOAD]
    assert ran[-2:] == LOAD
    assert (at_work(node), selected(node), good(node)) == (
        "2.0",
        "gpu-2.0",
        ["gpu-2.0", "gpu-1.0"],
    )
    assert "plan: gpu-1.0 is loaded, to be replaced by gpu-2.0" in done["said"]
    marks = {path.name for path in (node.root / "run/modulus/gpu/used").iterdir()}
    assert marks == {first, done["generation"]}
    # And back, without a store: both are there.
    assert command(node, capsys, "up", "gpu-1.0")["code"] == 0
    assert (at_work(node), good(node)) == ("1.0", ["gpu-1.0", "gpu-2.0"])


def test_what_cannot_be_built_changes_nothing(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(node, capsys, "up", "gpu-3.0")
    assert (done["code"], node.ran()) == (11, [])
    assert (at_work(node), selected(node)) == ("1.0", "gpu-1.0")


@pytest.mark.parametrize("setting", ["refuse", "wait"])
def test_a_driver_in_use_is_switched_at_the_next_boot(
    node: FakeNode, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    node.configure(switch_busy=setting)
    node.sys.process(4242, "python3 train.py", "/dev/gpu0")
    done = command(node, capsys, "up", "gpu-2.0")
    assert done["code"] == 17
    text = "gpu-1.0 is in use by process 4242 (python3 train.py): gpu-2.0 takes its place "
    assert done["error"]["message"].startswith(text)
    assert ("once that has ended" in done["error"]["message"]) is (setting == "wait")
    assert (at_work(node), selected(node), good(node)) == ("1.0", "gpu-2.0", ["gpu-1.0"])
    assert {"rmmod gpu_uvm", "modprobe gpu"}.isdisjoint(node.ran())
    node.reboot()
    node.forget_builds()
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], done["warm"], at_work(node)) == (0, True, "2.0")


def test_what_was_pending_is_done_once_the_driver_is_free(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.sys.process(4242, "python3", "/dev/gpu0")
    assert node.run("up", "gpu-2.0") == 17
    shutil.rmtree(node.root / "proc/4242")
    # A file that is not loaded counts too now, and is made anew.
    file = generation_of(node, "2.0") / "bin/gpu-tool"
    file.write_text("changed\n")
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], at_work(node)) == (0, "2.0")
    assert "is damaged: bin/gpu-tool" in done["said"]
    assert done["generation"].endswith(".2")


def test_what_is_pending_is_given_up_by_down(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.sys.process(4242, "python3", "/dev/gpu0")
    assert node.run("up", "gpu-2.0") == 17
    done = command(node, capsys, "down", "gpu-2.0")
    assert done["removed"] == ["the pending switch from gpu-1.0"]
    assert (at_work(node), selected(node)) == ("1.0", "gpu-1.0")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda node: node.refuses("gpu", "2.0"), "gpu was not loaded: "),
        (lambda node: node.refuses("gpu-uvm", "2.0"), "gpu-uvm was not loaded: "),
        (lambda node: half_dead(node, "2.0"), "module gpu is not loaded: "),
    ],
    ids=["first module", "second module", "verify"],
)
def test_what_does_not_work_gives_way_to_what_did(
    node: FakeNode, capsys: pytest.CaptureFixture[str], change: Change, cause: str
) -> None:
    change(node)
    done = command(node, capsys, "up", "gpu-2.0")
    assert done["code"] == 21
    message = done["error"]["message"]
    assert message.startswith(f"gpu-2.0 does not work: {cause}")
    assert message.endswith("; gpu-1.0 is back, loaded and verified")
    assert done["error"]["hint"].endswith(
        "then run modulus up gpu-2.0 again; until then gpu-1.0 is selected"
    )
    assert (at_work(node), selected(node), good(node)) == ("1.0", "gpu-1.0", ["gpu-1.0"])
    assert node.state("gpu-2.0")["error"]["code"] == 21
    node.ran()
    assert command(node, capsys, "up", "gpu-1.0")["changed"] is False
    assert node.ran() == []


@pytest.fixture
def wrong_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look at what was started ends in a bug."""
    calls = iter([True])

    def wrong(*words: Any) -> object:
        if next(calls, False):
            raise KeyError("x")
        return look(*words)

    monkeypatch.setattr("modulus.pipeline.activate.begin.look", wrong)


@pytest.mark.usefixtures("wrong_once")
def test_a_bug_is_no_reason_to_be_without_a_driver(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], at_work(node)) == (21, "1.0")
    assert "gpu-2.0 does not work: KeyError: 'x'" in done["error"]["message"]


@pytest.mark.usefixtures("wrong_once")
def test_the_same_modules_get_the_files_back_that_they_worked_with(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    first = active_name(node)
    node.configure(components=["compute", "utility"], auto_fallback=False)
    done = command(node, capsys, "up", "gpu-1.0")
    assert (done["code"], at_work(node), active_name(node)) == (21, "1.0", first)
    assert f"; {first} is back, loaded and verified" in done["error"]["message"]
    assert not {"rmmod gpu", "modprobe gpu"} & set(node.ran())


def test_a_signal_that_ends_it_waits_until_a_driver_is_at_work(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    when_loaded(node, "2.0", "kill -TERM $PPID")
    assert (node.run("up", "gpu-2.0"), at_work(node)) == (143, "2.0")
    assert "ended by SIGTERM" in capsys.readouterr().err


def test_what_does_not_work_and_is_in_use_stays_until_the_next_boot(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    when_loaded(
        node,
        "2.0",
        "{ rm -r $module; mkdir -p $root/proc/77/fd; "
        "ln -s /dev/gpu0 $root/proc/77/fd/3; echo grabber >$root/proc/77/comm; }",
    )
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], selected(node), active_name(node)[:3]) == (21, "gpu-1.0", "2.0")
    assert "gpu-1.0 does not come back either: " in done["error"]["message"]
    assert "process 77 ([grabber])" in done["error"]["message"]
    assert set(node.loaded().values()) == {"2.0"}
    assert command(node, capsys, "up", "gpu-1.0")["code"] == 17
    shutil.rmtree(node.root / "proc/77")
    assert (node.run("up", "gpu-1.0"), at_work(node)) == (0, "1.0")


def test_a_use_that_comes_between_leaves_the_old_one_whole(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    write(node.tools / "gpu.fail", "rmmod: ERROR: Module gpu is in use\n")
    done = command(node, capsys, "up", "gpu-2.0")
    assert done["code"] == 17
    assert done["error"]["message"].startswith("gpu-1.0 does not go: gpu was not unloaded")
    assert node.ran()[-1] == "modprobe gpu-uvm"
    assert (at_work(node), selected(node)) == ("1.0", "gpu-2.0")


def test_a_module_for_another_kernel_is_found_before(
    node: FakeNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ModuleInfo.info
    monkeypatch.setattr(
        ModuleInfo,
        "info",
        lambda self, key: "5.10.0 SMP " if key == "vermagic" else right(self, key),
    )
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], node.ran()) == (16, [])
    assert "is for kernel 5.10.0 SMP, and 6.1.0-9-amd64 runs" in done["error"]["message"]
    assert (at_work(node), selected(node)) == ("1.0", "gpu-1.0")


@pytest.mark.parametrize("damage", [b"changed", None], ids=["no module", "longer"])
def test_without_a_way_back_nothing_is_unloaded(
    node: FakeNode, capsys: pytest.CaptureFixture[str], damage: bytes | None
) -> None:
    file = node.module("gpu")
    file.write_bytes(damage or file.read_bytes() + b"\0")
    done = command(node, capsys, "up", "gpu-2.0")
    assert (done["code"], selected(node)) == (12, "gpu-1.0")
    assert "there would be no way back" in done["error"]["message"]
    assert not {"rmmod gpu", "modprobe gpu"} & set(node.ran())
    assert node.run("down", "gpu-1.0") == 0
    assert command(node, capsys, "up", "gpu-2.0")["code"] == 0
    assert at_work(node) == "2.0"


def test_where_nothing_works_any_more_the_old_one_is_what_starts_next(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.says("gpu", fails="Key was rejected by service")
    # rmmod goes by the same file.
    tool = node.tools / "rmmod"
    write(tool, tool.read_text().replace("$tools/$1.fail", "/dev/null/x"), 0o755)
    done = command(node, capsys, "up", "gpu-2.0")
    assert done["code"] == 21
    assert "gpu-1.0 does not come back either: gpu was not loaded" in done["error"]["message"]
    assert (selected(node), active_name(node)[:3], node.loaded()) == ("gpu-1.0", "1.0", {})
    (node.tools / "gpu.fail").unlink()
    assert (node.run("up", "gpu-1.0"), at_work(node)) == (0, "1.0")
