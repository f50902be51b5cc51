"""Real folders and the kernel's real messages, in a real main loop."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modulus.agent.loop import Loop
from modulus.host.watch import monitor as monitor_module
from modulus.host.watch.inotify import Inotify, Notice
from modulus.host.watch.monitor import _MANY, FolderMonitor, _Hub
from tests.support.mainloop import run_until, turn


class Told:
    """What a monitor has told, taken after the loop has gone idle."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def take(self) -> set[str]:
        turn()
        names = set(self.names)
        self.names.clear()
        return names


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def monitor(told: Told) -> Iterator[Callable[[Path], FolderMonitor]]:
    made: list[FolderMonitor] = []

    def make(folder: Path) -> FolderMonitor:
        made.append(FolderMonitor(folder, told.names.append))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert not FolderMonitor._queues, "no queue is left open"


Make = Callable[[Path], FolderMonitor]


def test_what_changes_is_told_by_name(tmp_path: Path, monitor: Make, told: Told) -> None:
    there = tmp_path / "there"
    there.write_text("x")
    monitor(tmp_path)
    assert told.take() == set()
    (tmp_path / "new").write_text("")
    assert told.take() == {"new"}
    (tmp_path / "new").rename(tmp_path / "other")
    assert told.take() == {"new", "other"}
    (tmp_path / "other").unlink()
    assert told.take() == {"other"}
    there.chmod(0o600)
    assert told.take() == {"there"}
    os.utime(there)
    assert told.take() == {"there"}
    there.write_text("more")
    assert told.take() == set(), "writes are none of our business"


def test_a_folder_that_comes_goes_and_comes_again(
    tmp_path: Path, monitor: Make, told: Told
) -> None:
    folder = tmp_path / "a" / "b" / "c"
    monitor(folder)
    (tmp_path / "x").mkdir()
    (tmp_path / "a").mkdir()
    assert told.take() == set()
    (tmp_path / "a" / "b").mkdir()
    (tmp_path / "a" / "c").mkdir()
    assert told.take() == set()
    folder.mkdir()
    assert told.take() == {""}
    (folder / "one").touch()
    assert told.take() == {"one"}
    folder.rename(tmp_path / "c")
    assert told.take() == {""}
    (tmp_path / "c" / "two").touch()
    assert told.take() == set(), "it is another folder now"
    folder.mkdir()
    assert told.take() == {""}
    folder.rmdir()
    (tmp_path / "a" / "b").rmdir()
    assert told.take() == {""}
    folder.mkdir(parents=True)
    assert told.take() == {""}
    (folder / "three").touch()
    assert told.take() == {"three"}


def test_a_whole_path_that_comes_at_once(tmp_path: Path, monitor: Make, told: Told) -> None:
    monitor(tmp_path / "a" / "b")
    (tmp_path / "work" / "b").mkdir(parents=True)
    (tmp_path / "work").rename(tmp_path / "a")
    assert told.take() == {""}
    (tmp_path / "a" / "b" / "one").touch()
    assert told.take() == {"one"}


def test_a_file_in_the_folders_place(tmp_path: Path, monitor: Make, told: Told) -> None:
    folder = tmp_path / "a"
    folder.touch()
    monitor(folder)
    folder.unlink()
    assert told.take() == set()
    folder.mkdir()
    assert told.take() == {""}


def test_two_monitors_of_one_folder(tmp_path: Path, monitor: Make, told: Told) -> None:
    first = monitor(tmp_path)
    monitor(tmp_path)
    (tmp_path / "one").touch()
    told.take()
    first.close()
    first.close()
    (tmp_path / "two").touch()
    assert told.take() == {"two"}


def test_one_that_is_closed_tells_nothing(tmp_path: Path, monitor: Make, told: Told) -> None:
    one = monitor(tmp_path)
    monitor(tmp_path)
    (tmp_path / "one").touch()
    one.close()
    told.take()
    (tmp_path / "two").touch()
    assert told.take() == {"two"}


def test_lost_messages_are_told(
    tmp_path: Path, monitor: Make, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "late"
    monitor(tmp_path)
    monitor(late)
    late.mkdir()
    monkeypatch.setattr(Inotify, "take", lambda _: iter([Notice(None)]))
    hub = FolderMonitor._queues[""]
    assert isinstance(hub, _Hub)
    assert hub._ready()
    assert told.names == ["", ""]


def test_a_flood_is_taken_in_parts(tmp_path: Path, monitor: Make, told: Told) -> None:
    """Of what comes faster than it can be taken; the kernel holds 16,384 messages."""
    there = [tmp_path / name for name in ("one", "two")]
    for path in there:
        path.touch()
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    monitor(tmp_path)
    names: list[str] = []
    other = FolderMonitor(quiet, names.append, "of its own")
    for _ in range(20_000):
        for path in there:
            path.touch()
    (quiet / "new").touch()
    turn()
    assert told.names == ["one", "two"]
    assert names == ["new"]
    run_until(lambda: "" in told.names, "that some were lost")
    assert len(told.names) < 50
    (tmp_path / "last").touch()
    run_until(lambda: "last" in told.names)
    other.close()


def test_a_flood_of_single_messages(
    tmp_path: Path, monitor: Make, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is taken before the next comes."""
    monkeypatch.setattr(monitor_module, "_PAUSE", 3_600_000)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    there = tmp_path / "there"
    there.touch()
    monitor(tmp_path)
    for _ in range(2 * _MANY):
        there.touch()
        turn()
    assert len(told.names) == _MANY


def test_messages_in_their_time_are_no_flood(
    tmp_path: Path, monitor: Make, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    there = tmp_path / "there"
    there.touch()
    monitor(tmp_path)
    for _ in range(2 * _MANY):
        there.touch()
        turn()
    assert len(told.names) == 2 * _MANY


def test_what_a_listener_raises_does_not_end_the_watching(
    tmp_path: Path, monitor: Make, told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: str) -> None:
        raise ValueError("a bug")

    failing = FolderMonitor(tmp_path, fail)
    monitor(tmp_path)
    (tmp_path / "one").touch()
    assert told.take() == {"one"}
    assert "a bug" in capsys.readouterr().err
    failing.close()


def test_in_the_agents_loop(tmp_path: Path) -> None:
    loop = Loop()
    loop.after(0, lambda: (tmp_path / "new").touch())
    monitor = FolderMonitor(tmp_path, lambda name: loop.end(7 if name == "new" else 1))
    assert loop.run() == 7
    monitor.close()


def test_a_watch_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Inotify, folder: Path) -> int:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(Inotify, "watch", refuse)
    with pytest.raises(OSError, match="No space left"):
        FolderMonitor(tmp_path, print)
    assert not FolderMonitor._queues
