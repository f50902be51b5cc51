"""Real nodes in a real folder, watched by the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.agent.watch.nodes import NodeWatch
from modulus.core.agent.events import Event
from modulus.core.devices.wanted import DeviceNode, NodeRule
from modulus.core.generation.recorded_state import RecordedState
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.recorded_state import write_recorded_state
from modulus.host.watch.inotify import Inotify
from modulus.host.watch.monitor import FolderMonitor
from tests.support.headertrees import link
from tests.support.mainloop import HandLoop, turn

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")

# The numbers of /dev/zero and /dev/full.
ZERO, FULL = DeviceNode("/dev/gpu0", 1, 5), DeviceNode("/dev/caps/cap1", 1, 7)
STATE = RecordedState("gpu-1.0", "g", nodes=(ZERO, FULL))


class Watched:
    """The watch below ``root``, where all is right."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[Event] = []
        self.loop = HandLoop()
        for node in (ZERO, FULL):
            self.make(node)
        self.driver = DriverPaths(root, "gpu")
        write_recorded_state(self.driver, STATE)
        self.why: list[str] = []
        self.watch = NodeWatch(self.driver, self.loop, self.told.append, self.why.append)

    def make(self, node: DeviceNode) -> None:
        path = self.root / node.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(path, 0o020000, os.makedev(node.major, node.minor))
        path.chmod(node.mode)
        char = self.root / f"dev/char/{node.major}:{node.minor}"
        if not char.is_symlink():
            link(char, f"..{node.path[4:]}")

    def turn_once(self) -> None:
        """Lets happen what is due now, but not what comes of that later."""
        turn()
        for callback in tuple(self.loop.waiting):
            self.loop.waiting.remove(callback)
            callback()

    def take(self) -> list[str]:
        """What was told since the last time."""
        self.loop.turn()
        told = [event.text for event in self.told]
        assert {event.kind for event in self.told} <= {"wrong"}
        self.told.clear()
        return told


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    made.watch.start()
    made.watch.start()
    assert made.take() == []
    yield made
    made.watch.stop()
    made.watch.stop()
    assert not FolderMonitor._queues
    assert (made.loop.waiting, made.why) == ([], [])


def test_a_node_that_vanishes(watched: Watched) -> None:
    (watched.root / "dev/gpu0").unlink()
    assert watched.take() == ["/dev/gpu0 is missing"]
    watched.make(ZERO)
    assert watched.take() == []


def test_a_node_and_a_link_that_change(watched: Watched) -> None:
    (watched.root / "dev/caps/cap1").chmod(0o600)
    assert watched.take() == ["/dev/caps/cap1 is wrong: mode 0600 instead of 0666"]
    (watched.root / "dev/caps/cap1").chmod(0o666)
    (watched.root / "dev/char/1:7").unlink()
    assert watched.take() == ["/dev/char/1:7 is missing"]


def test_folders_that_vanish_and_come_back(watched: Watched) -> None:
    for name in ("char", "caps"):
        (watched.root / "dev" / name).rename(watched.root / "dev" / f"{name}.old")
    assert watched.take() == [
        "/dev/caps/cap1 is missing; /dev/char/1:5 is missing; /dev/char/1:7 is missing"
    ]
    for name in ("char", "caps"):
        (watched.root / "dev" / f"{name}.old").rename(watched.root / "dev" / name)
    assert watched.take() == []
    (watched.root / "dev/caps/cap1").unlink()
    assert watched.take() == ["/dev/caps/cap1 is missing"]


def test_others_names_are_not_even_looked_at(watched: Watched) -> None:
    (watched.root / "dev/null").touch()
    (watched.root / "dev/char/1:3").symlink_to("../null")
    turn()
    assert watched.loop.waiting == []


def test_what_is_replaced_in_time_is_no_news(watched: Watched) -> None:
    (watched.root / "dev/gpu0").unlink()
    watched.make(ZERO)
    assert watched.take() == []


def test_the_record_that_changes_counts(watched: Watched) -> None:
    (watched.root / "dev/caps").rename(watched.root / "dev/old")
    (watched.root / "dev/char/1:7").unlink()
    write_recorded_state(watched.driver, replace(STATE, nodes=(ZERO,)))
    assert watched.take() == []
    watched.driver.recorded_state.unlink()
    (watched.root / "dev/gpu0").unlink()
    assert watched.take() == []
    write_recorded_state(watched.driver, STATE)
    assert watched.take() == [
        "/dev/gpu0 is missing; /dev/caps/cap1 is missing; /dev/char/1:7 is missing"
    ]


def test_nodes_of_new_numbers_have_time_until_these_are_recorded(watched: Watched) -> None:
    rules = (NodeRule("gpu0", major=("gpu",), minor=5),)
    state = replace(STATE, rules=rules, majors={"gpu": 1}, nodes=(ZERO,))
    devices = watched.root / "proc/devices"
    devices.parent.mkdir()
    devices.write_text("Character devices:\n  1 gpu\n")
    write_recorded_state(watched.driver, state)
    assert watched.take() == []

    def load_anew(before: int, after: int) -> DeviceNode:
        devices.write_text(f"Character devices:\n  {after} gpu\n")
        (watched.root / "dev/gpu0").unlink()
        (watched.root / f"dev/char/{before}:5").unlink()
        new = replace(ZERO, major=after)
        watched.make(new)
        return new

    # A repair: the nodes, and a while later the record.
    new = load_anew(1, 7)
    watched.turn_once()
    write_recorded_state(watched.driver, replace(state, majors={"gpu": 7}, nodes=(new,)))
    assert watched.take() == []
    # Somebody else: nothing is recorded.
    load_anew(7, 8)
    assert watched.take() == [
        "/dev/gpu0 is wrong: major 8 instead of 7; /dev/char/7:5 is missing"
    ]


def test_many_things_are_not_all_named(watched: Watched) -> None:
    for path in ("gpu0", "caps/cap1", "char/1:5", "char/1:7"):
        (watched.root / "dev" / path).unlink()
    assert watched.take()[-1].endswith("/dev/char/1:5 is missing (and 1 more)")


def test_what_vanished_before_it_was_started(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    (tmp_path / "dev/gpu0").unlink()
    watched.watch.start()
    assert watched.take() == ["/dev/gpu0 is missing"]
    watched.watch.stop()
    (tmp_path / "dev/caps/cap1").unlink()
    assert watched.take() == []


def test_nodes_that_the_driver_wants_left_alone(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    write_recorded_state(watched.driver, replace(STATE, nodes=(replace(ZERO, managed=False),)))
    watched.watch.start()
    (tmp_path / "dev/gpu0").unlink()
    assert watched.take() == []
    watched.watch.stop()


def test_limits_that_are_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Inotify, folder: Path) -> int:
        raise OSError(28, "No space left on device", str(folder))

    watched = Watched(tmp_path)
    (tmp_path / "dev/gpu0").unlink()
    monkeypatch.setattr(Inotify, "watch", refuse)
    watched.watch.start()
    assert set(watched.why) == {
        f"{tmp_path}/{folder}: No space left on device"
        for folder in ("dev", "dev/caps", "dev/char", "run/modulus/gpu")
    }
    assert watched.take() == ["/dev/gpu0 is missing"]
    watched.watch.stop()
