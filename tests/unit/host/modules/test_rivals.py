"""A rival driver is taken off a GPU: in a root, with tools that stand in for the kernel."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from modulus.core.findings import Finding
from modulus.core.gpu.census import Census
from modulus.core.modules.rivals import (
    Rival,
)
from modulus.host.gpu.census import take_census
from modulus.host.gpu.display import display_nodes
from modulus.host.modules import rivals
from modulus.host.modules.rivals import observe, remove_rivals
from modulus.host.report.reporter import PlainReporter
from tests.support.fakesys import FakeSys
from tests.support.headertrees import write
from tests.unit.host.gpu.test_census import profile

GPU, OTHER = "0000:00:05.0", "0000:00:09.0"


class Node(FakeSys):
    """A root with a tool that unloads what is in its /sys/module."""

    log: io.StringIO

    def census(self) -> Census:
        return take_census(self.root, profile())

    def remove(self, *names: str, force: bool = False) -> tuple[Finding, ...]:
        """What is left to do."""
        result = remove_rivals(
            self.root,
            names or ("rival",),
            self.census(),
            PlainReporter(self.log),
            force=force,
            force_setting="rival_unbind",
        )
        asked = (self.root / "sys/bus/pci/drivers").glob("[rR]ival/unbind")
        assert "".join(result.unbound) == "".join(path.read_text().strip() for path in asked)
        return result.findings

    def is_loaded(self, name: str = "rival") -> bool:
        return (self.root / "sys/module" / name).exists()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node(tmp_path / "root")
    object.__setattr__(node, "log", io.StringIO())
    modules = node.root / "sys/module"
    write(
        tmp_path / "tools/rmmod",
        f"""#!/bin/sh
[ $# = 1 ] || exit 2
read -r count <{modules}/$1/refcnt
if [ "$count" != 0 ]; then echo "rmmod: ERROR: Module $1 is in use" >&2; exit 1; fi
rm -r {modules}/$1 && rm -f {modules}/*/holders/$1
for held in {modules}/*/refcnt; do
    if [ -e "$held" ]; then ls "${{held%refcnt}}holders" | wc -l >"$held"; fi
done
""",
        0o755,
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:{os.environ['PATH']}")
    monkeypatch.setattr(rivals, "_PAUSE", 0)
    node.device(GPU)
    return node


def test_a_bound_rival_that_is_idle_is_taken_off(node: Node) -> None:
    node.module("rival")
    node.bind(GPU, "Rival:rival")
    assert node.remove() == ()
    assert node.unbound("Rival") == GPU
    assert not node.is_loaded()
    assert node.log.getvalue() == (
        f"load: taking GPU {GPU} from rival\nload: unloading rival\n"
    )


def test_a_rival_that_is_not_there_is_nothing_to_do(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "shelter", None)
    assert node.remove("rival", "other-rival") == ()


def test_an_idle_rival_is_unloaded_before_it_takes_a_gpu(node: Node) -> None:
    node.module("other_rival")
    assert node.remove("other-rival") == ()
    assert not node.is_loaded("other_rival")


def test_a_rival_at_work_on_another_device_stays(node: Node) -> None:
    node.module("rival")
    node.device(OTHER, "10de:1234", "0x038000", driver="rival")
    assert node.remove() == ()
    node.bind(GPU, "rival")
    assert node.remove() == ()
    assert (node.unbound("rival"), node.is_loaded()) == (GPU, True)


def test_a_gpu_that_is_passed_through_is_left_alone(node: Node) -> None:
    node.device("0000:00:06.0", driver="rival", driver_override="vfio-pci")
    node.module("rival")
    assert node.remove() == ()
    assert node.unbound("rival") == ""


def test_a_rival_that_is_used_by_another_goes_after_it(node: Node) -> None:
    node.module("rival", 1, "rival_drm")
    node.module("rival_drm", 0)
    node.bind(GPU, "rival")
    assert node.remove("rival", "rival-drm") == ()
    assert [line for line in node.log.getvalue().splitlines() if "unloading" in line] == [
        "load: unloading rival_drm",
        "load: unloading rival",
    ]
    assert (node.unbound("rival"), node.is_loaded()) == (GPU, False)


def test_the_console_on_a_rival_needs_a_reboot(node: Node) -> None:
    node.module("rival")
    node.bind(GPU, "rival")
    node.screen(GPU, card=0, buffer=0)
    console = node.console(bound=True)
    (finding,) = node.remove()
    assert node.is_loaded()
    assert (finding.id, finding.level, finding.severity) == ("rival-bound", "loaded", "error")
    assert finding.message == f"rival has GPU {GPU}: reboot needed"
    assert finding.cause == "the console is on its framebuffer"
    assert "rival_unbind: true" in finding.fix
    assert (node.unbound("rival"), console.read_text()) == ("", "1\n")


def test_a_forced_removal_takes_the_console_off_first(node: Node) -> None:
    node.module("rival")
    node.bind(GPU, "rival")
    node.screen(GPU, card=0, buffer=0)
    console = node.console(bound=True)
    assert node.remove(force=True) == ()
    assert not node.is_loaded()
    assert console.read_text() == "0\n"
    assert node.unbound("rival") == GPU


@pytest.mark.parametrize("named", ["sysfs", "proc"])
def test_a_console_on_another_screen_is_no_obstacle(node: Node, named: str) -> None:
    node.module("rival")
    node.bind(GPU, "rival")
    node.screen(GPU, card=1, buffer=1)
    if named == "sysfs":
        node.device(OTHER, "1234:1111", "0x030000", boot_vga="1", driver="bochs-drm:bochs")
        node.screen(OTHER, card=0, buffer=0)
    else:
        write(node.root / "proc/fb", "0 EFI VGA\n1 rivaldrmfb\n")
    console = node.console(bound=True)
    assert node.remove() == ()
    assert (node.is_loaded(), console.read_text()) == (False, "1\n")


def test_a_text_console_is_no_obstacle(node: Node) -> None:
    node.module("rival")
    node.bind(GPU, "rival")
    node.screen(GPU, buffer=0)
    node.console(bound=True, name="(S) dummy device")
    assert (node.remove(), node.is_loaded()) == ((), False)


def test_a_process_with_the_display_open_needs_a_reboot(node: Node) -> None:
    node.module("rival", 1)
    node.bind(GPU, "rival")
    node.screen(GPU, card=0)
    node.process(812, "Xorg :0", "/dev/dri/card0")
    node.process(813, "other", "/dev/dri/card1")
    (finding,) = node.remove()
    assert finding.cause == "in use by process 812 (Xorg :0)"
    assert node.unbound("rival") == ""


def test_a_forced_rival_may_stay_loaded_without_a_gpu(node: Node) -> None:
    node.module("rival", 1)
    node.bind(GPU, "rival")
    node.screen(GPU, card=0)
    node.process(812, "Xorg :0", "/dev/dri/card0")
    (finding,) = node.remove(force=True)
    assert (node.unbound("rival"), node.is_loaded()) == (GPU, True)
    assert (finding.id, finding.severity) == ("rival-loaded", "warning")
    assert "Module rival is in use" in finding.cause


def test_what_the_kernel_refuses_is_a_finding(node: Node) -> None:
    node.module("rival")
    node.bind(GPU, "rival")
    (node.root / "sys/bus/pci/drivers/rival/unbind").unlink()
    (finding,) = node.remove()
    assert (finding.id, finding.severity) == ("rival-bound", "error")
    assert "No such file" in finding.cause
    assert node.is_loaded()


def test_a_console_that_cannot_be_freed_keeps_the_rival(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: Path) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    node.module("rival")
    node.bind(GPU, "rival")
    node.screen(GPU, buffer=0)
    node.console(bound=True)
    monkeypatch.setattr(rivals, "free_console", refuse)
    (finding,) = node.remove(force=True)
    assert finding.cause.endswith("the console stays on it: No such device")
    assert (node.unbound("rival"), node.is_loaded()) == ("", True)


def test_what_is_seen_of_a_rival(node: Node) -> None:
    node.module("rival", None)
    node.bind(GPU, "rival")
    node.screen(GPU, card=3, buffer=2)
    found = observe(node.root, "rival", node.census())
    assert found == Rival("rival", None, (GPU,))
    nodes = display_nodes(node.root, [GPU])
    assert nodes.numbers == {(226, 3), (29, 2)}
    assert nodes.paths == {"/dev/dri/card3", "/dev/fb2"}
