"""The kernel's messages about modules and GPUs, from a socket that stands in for its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from modulus.agent.watch.modules import ModuleWatch
from modulus.core.agent.events import Event
from modulus.core.generation.recorded_state import RecordedState
from modulus.core.pci import PciMatch
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.recorded_state import write_recorded_state
from modulus.host.watch.uevents import Uevents
from tests.support.fakesys import FakeSys
from tests.support.headertrees import write
from tests.support.mainloop import HandLoop, turn

GPU, SECOND = "0000:00:05.0", "0000:00:06.0"
MATCHES = (PciMatch(0x10DE, 0x0302),)
STATE = RecordedState(
    "gpu-1.0",
    "g",
    needed=("gpu",),
    modules={"gpu": "S", "gpu_uvm": None},
    pci=MATCHES,
    gpus={GPU: "gpu"},
)


class Watched:
    """The watch, and the kernel's end of what it listens to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kernel, self._channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.told: list[Event] = []
        self.loop = HandLoop()
        self.asked = 0
        self.why: list[str] = []
        FakeSys(root).device(GPU, driver="gpu")
        write(root / "sys/module/gpu/srcversion", "S\n")
        self.driver = DriverPaths(root, "gpu")
        self.watch = ModuleWatch(
            self.driver, self.loop, self.told.append, self._gpus, self.why.append, self._uevents
        )

    def _gpus(self) -> Sequence[PciMatch]:
        self.asked += 1
        return MATCHES

    def _uevents(self) -> Uevents:
        return Uevents(self._channel)

    def say(self, action: str, path: str, subsystem: str, **fields: str) -> None:
        lines = {"ACTION": action, "DEVPATH": path, "SUBSYSTEM": subsystem, **fields}
        texts = (f"{action}@{path}", *(f"{name}={value}" for name, value in lines.items()))
        self.kernel.send(b"".join(text.encode() + b"\0" for text in texts))

    def module(self, action: str, name: str) -> None:
        self.say(action, f"/module/{name}", "module")

    def gpu(self, action: str, address: str = GPU, ids: str = "10DE:20B0") -> None:
        path = f"/devices/pci0000:00/{address}"
        fields = {"PCI_CLASS": "30200", "PCI_ID": ids, "PCI_SLOT_NAME": address}
        self.say(action, path, "pci", **fields)

    def take(self) -> list[tuple[str, str]]:
        """What was told since the last time."""
        self.loop.turn()
        told = [(str(event.kind), event.text) for event in self.told]
        self.told.clear()
        return told


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    made.watch.start()
    made.watch.start()
    yield made
    made.watch.stop()
    made.watch.stop()
    assert (made.loop.waiting, made.why) == ([], [])
    made.kernel.close()


@pytest.fixture
def active(watched: Watched) -> Watched:
    """With a record, as ``up`` leaves it."""
    write_recorded_state(watched.driver, STATE)
    return watched


def test_a_module_that_is_unloaded(active: Watched) -> None:
    (active.root / "sys/module/gpu/srcversion").unlink()
    (active.root / "sys/module/gpu/drivers/pci:gpu").unlink()
    (active.root / "sys/module/gpu/drivers").rmdir()
    (active.root / "sys/module/gpu").rmdir()
    active.module("remove", "gpu")
    assert active.take() == [("modules", "the kernel says: remove gpu")]


def test_one_that_is_loaded_besides(active: Watched) -> None:
    write(active.root / "sys/module/gpu_uvm/initstate", "live\n")
    active.module("add", "gpu_uvm")
    assert active.take() == [("modules", "the kernel says: add gpu_uvm")]


def test_one_that_is_loaded_again_by_hand(active: Watched) -> None:
    write(active.root / "sys/module/gpu/srcversion", "T\n")
    for action in ("remove", "add"):
        active.module(action, "gpu")
    assert active.take() == [("modules", "the kernel says: remove gpu, add gpu")]


def test_what_turns_out_to_be_right_is_no_news(active: Watched) -> None:
    for action in ("remove", "add"):
        active.module(action, "gpu")
        active.gpu("unbind" if action == "remove" else "bind")
    assert active.take() == []


def test_what_up_itself_did_is_no_news(watched: Watched) -> None:
    """The record is written between the message and the look."""
    write_recorded_state(watched.driver, RecordedState("gpu-1.0", "g", modules={"gpu": None}))
    watched.module("add", "gpu")
    turn()
    write_recorded_state(watched.driver, STATE)
    assert watched.take() == []


def test_messages_about_others(active: Watched) -> None:
    active.module("add", "other")
    active.gpu("add", "0000:00:09.0", "8086:1234")
    active.gpu("change")
    active.say("add", "/devices/virtual/net/gpu", "net")
    turn()
    assert active.loop.waiting == []
    assert active.asked == 0


def test_a_gpu_that_comes(active: Watched) -> None:
    FakeSys(active.root).device(SECOND)
    active.gpu("add", SECOND)
    assert active.take() == [("gpus", f"the kernel says: add {SECOND} (10de:20b0)")]


def test_a_gpu_that_is_lost(active: Watched) -> None:
    (active.root / "sys/bus/pci/devices" / GPU).unlink()
    for action in ("unbind", "remove", "remove"):
        active.gpu(action)
    lost = f"the kernel says: unbind {GPU} (10de:20b0), remove {GPU} (10de:20b0)"
    assert active.take() == [("gpus", lost)]


def test_while_a_gpu_is_waited_for(watched: Watched) -> None:
    watched.module("add", "gpu")
    watched.gpu("add")
    assert watched.take() == [("gpus", f"the kernel says: add {GPU} (10de:20b0)")]
    assert watched.asked == 1


def test_lost_messages(active: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uevents, "take", lambda _: iter([None]))
    write(active.root / "sys/module/gpu/srcversion", "T\n")
    FakeSys(active.root).device(SECOND)
    active.watch._read()
    text = "the kernel says: some messages of the kernel were lost"
    assert active.take() == [("modules", text), ("gpus", text)]


def test_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    def refuse() -> Uevents:
        raise OSError(93, "Protocol not supported")

    why: list[str] = []
    driver = DriverPaths(tmp_path, "gpu")
    for uevents in (refuse, None):
        watch = ModuleWatch(driver, HandLoop(), print, tuple, why.append, uevents)
        watch.start()
        watch.stop()
    assert why == ["[Errno 93] Protocol not supported", "this is another root"]
