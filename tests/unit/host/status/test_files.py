"""The files of live states: whole, and no claim of a process that is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modulus.core.status.state import State, abandoned
from modulus.errors import ConfigError
from modulus.host.status.files import (
    failures_file,
    is_anothers,
    read_state,
    read_states,
    remove_state,
    write_state,
)

BUILDING = State("driver-1.0", "build", progress=0.5)
WRITER = """\
import sys
from pathlib import Path
from modulus.core.status.state import State
from modulus.host.status.files import write_state
write_state(Path(sys.argv[1]), State("driver-1.0", "build", progress=0.5))
print("written", flush=True)
sys.stdin.read()
"""


@contextmanager
def writer(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has written BUILDING and stays until its input ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield process


def file(root: Path) -> Path:
    return root / "run/modulus/driver-1.0.json"


def change(root: Path, **values: Any) -> None:
    value = json.loads(file(root).read_text())
    file(root).write_text(json.dumps({**value, **values}))


def test_a_state_is_read_back_as_long_as_its_writer_lives(tmp_path: Path) -> None:
    write_state(tmp_path, BUILDING)
    assert read_state(tmp_path, "driver-1.0") == BUILDING
    value = json.loads(file(tmp_path).read_text())
    assert value["writer"]["pid"] == os.getpid()
    assert BUILDING.value().items() <= value.items()


def test_others_can_read_it_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_state(tmp_path, BUILDING)
    write_state(tmp_path, replace(BUILDING, progress=0.6))
    assert list(file(tmp_path).parent.iterdir()) == [file(tmp_path)]
    assert file(tmp_path).stat().st_mode & 0o777 == 0o644
    found = read_state(tmp_path, "driver-1.0")
    assert found is not None
    assert found.progress == 0.6


def test_a_killed_build_is_not_under_way(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        assert read_state(tmp_path, "driver-1.0") == BUILDING
        process.kill()
        process.wait()
        assert read_state(tmp_path, "driver-1.0") == abandoned(BUILDING)


def test_neither_is_one_that_nobody_has_reaped(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        stat = Path(f"/proc/{process.pid}/stat")
        deadline = time.monotonic() + 5
        while ") Z " not in stat.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_state(tmp_path, "driver-1.0") == abandoned(BUILDING)


def test_nor_one_whose_pid_another_process_has_now(tmp_path: Path) -> None:
    write_state(tmp_path, BUILDING)
    writer = json.loads(file(tmp_path).read_text())["writer"]
    change(tmp_path, writer={**writer, "start": writer["start"] - 1})
    assert read_state(tmp_path, "driver-1.0") == abandoned(BUILDING)


@pytest.mark.parametrize("writer", [None, {}, {"pid": "self"}, 7])
def test_nor_one_that_nobody_wrote(tmp_path: Path, writer: object) -> None:
    write_state(tmp_path, BUILDING)
    change(tmp_path, writer=writer)
    assert read_state(tmp_path, "driver-1.0") == abandoned(BUILDING)


def test_a_writer_in_another_container_is_believed(tmp_path: Path) -> None:
    """Its pids say nothing here."""
    write_state(tmp_path, BUILDING)
    writer = {"pid": 1, "start": 1, "pid_namespace": "pid:[1]"}
    change(tmp_path, writer=writer)
    assert read_state(tmp_path, "driver-1.0") == BUILDING


def test_states_are_listed_by_name(tmp_path: Path) -> None:
    assert read_states(tmp_path) == ()
    second, first = State("small-0.12.7", "ready"), State("driver-1.0", "ready")
    write_state(tmp_path, second)
    write_state(tmp_path, first)
    folder = file(tmp_path).parent
    (folder / "locks").mkdir()
    (folder / "broken-1.0.json").write_text("{")
    (folder / "list-1.0.json").write_text("[]")
    (folder / "copy-1.0.json").write_bytes(file(tmp_path).read_bytes())
    (folder / ".driver-1.0.json.42").write_text("{")
    assert read_states(tmp_path) == (first, second)


def test_a_state_can_be_removed_twice(tmp_path: Path) -> None:
    write_state(tmp_path, BUILDING)
    remove_state(tmp_path, "driver-1.0")
    remove_state(tmp_path, "driver-1.0")
    assert read_state(tmp_path, "driver-1.0") is None


def test_whose_state_it_is(tmp_path: Path) -> None:
    assert not is_anothers(tmp_path, "driver-1.0")
    write_state(tmp_path, BUILDING)
    assert not is_anothers(tmp_path, "driver-1.0")
    with writer(tmp_path) as process:
        assert is_anothers(tmp_path, "driver-1.0")
        process.kill()
        process.wait()
        assert not is_anothers(tmp_path, "driver-1.0")
    # This one's parent: the agent that it may work for.
    start = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19])
    namespace = os.readlink("/proc/self/ns/pid")
    change(tmp_path, writer={"pid": os.getppid(), "start": start, "pid_namespace": namespace})
    assert read_state(tmp_path, "driver-1.0") == BUILDING
    assert not is_anothers(tmp_path, "driver-1.0")


def test_nothing_that_is_kept_of_it_stays(tmp_path: Path) -> None:
    write_state(tmp_path, BUILDING)
    record = failures_file(tmp_path, "driver-1.0")
    record.parent.mkdir()
    record.write_text("{}")
    (record.parent / "driver-1.0.json").write_text("{}")
    folder = file(tmp_path).parent
    (folder / ".driver-1.0.json.99999999").touch()
    kept = {
        folder / f".driver-1.0.json.{os.getpid()}",
        folder / ".driver-1x0.json.99999999",
        record.with_name("driver-1.0.1.json"),
    }
    for path in kept:
        path.touch()
    remove_state(tmp_path, "driver-1.0")
    assert {path for path in folder.rglob("*") if path.is_file()} == kept


def test_no_instance_has_the_name_of_the_record_of_another(tmp_path: Path) -> None:
    write_state(tmp_path, State("x-1.backoff", "ready"))
    assert failures_file(tmp_path, "x-1") != file(tmp_path).with_name("x-1.backoff.json")
    assert read_states(tmp_path) == (State("x-1.backoff", "ready"),)


def test_where_it_cannot_be_written_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*driver-1\.0\.json"):
        write_state(tmp_path, BUILDING)
