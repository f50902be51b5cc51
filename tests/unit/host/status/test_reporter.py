"""The state file and systemd's view of the unit, as work goes on."""

from __future__ import annotations

import io
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.findings import Finding
from modulus.core.status.state import Failure, State
from modulus.core.status.text import status_text, stopped
from modulus.errors import BuildError, LockedError, ModulusError
from modulus.host.report.notify import Notifier
from modulus.host.report.reporter import PlainReporter
from modulus.host.status.files import read_state, write_state
from modulus.host.status.reporter import StatusReporter

NAME = "driver-1.0"


class Bench:
    """A StatusReporter, its clock, what it said and what systemd got."""

    def __init__(self, folder: Path, manager: socket.socket) -> None:
        self.root = folder / "root"
        self.manager = manager
        self.now = 1000.0
        self.log = io.StringIO()
        self.live = StatusReporter(
            PlainReporter(self.log, lambda: self.now),
            self.root,
            NAME,
            notifier=Notifier(str(folder / "notify")),
            clock=lambda: self.now,
            now=lambda: 1_700_000_000 + self.now,
        )

    def state(self) -> State:
        state = read_state(self.root, NAME)
        assert state
        return state

    def told(self) -> list[str]:
        """The messages since the last call, a word for a request of more time."""
        found: list[str] = []
        while True:
            try:
                text = self.manager.recv(4096).decode()
            except BlockingIOError:
                return found
            text = text.replace("EXTEND_TIMEOUT_USEC=180000000\n", "MORE ")
            found.append(text.replace("STATUS=", ""))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "root").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        yield Bench(tmp_path, manager)


def test_a_phase_is_seen_at_once(bench: Bench) -> None:
    bench.live.phase("build", "compiling\nfive modules")
    assert bench.log.getvalue() == "build: compiling\nfive modules\n"
    assert bench.told() == ["MORE build: compiling; five modules"]
    state = bench.state()
    assert (state.phase, state.progress, state.active) == ("build", None, False)
    assert state.since == "2023-11-14T22:30:00Z"


def test_progress_is_told_once_a_second(bench: Bench) -> None:
    bench.live.progress("build", 0, 304)
    for step in range(1, 41):
        bench.now += 0.1
        bench.live.progress("build", step, 304)
    told = bench.told()
    assert told[0] == "MORE build: 0 % (0/304)"
    assert 4 <= len(told) <= 6
    assert all(text.startswith("MORE build: ") for text in told)
    bench.now += 56
    bench.live.progress("build", 131, 304)
    assert bench.told() == ["MORE build: 43 % (131/304), 1:19 left"]
    state = bench.state()
    assert state.progress == pytest.approx(131 / 304)
    assert state.eta_s == pytest.approx(79, abs=1)


def test_no_time_is_asked_for_without_progress(bench: Bench) -> None:
    bench.live.progress("build", 5, 304)
    bench.told()
    for _ in range(5):
        bench.now += 60
        bench.live.progress("build", 5, 304)
    assert not any("MORE" in text for text in bench.told())
    bench.now += 60
    bench.live.progress("build", 6, 304)
    assert [text[:4] for text in bench.told()] == ["MORE"]
    # Counting that starts over is none; what comes after it is.
    for done, more in ((0, False), (0, False), (1, True)):
        bench.now += 60
        bench.live.progress("build", done, 304)
        assert [text.startswith("MORE") for text in bench.told()] == [more]


def test_what_grew_between_two_messages_counts(bench: Bench) -> None:
    bench.live.progress("build", 0, 304)
    bench.now += 0.5
    bench.live.progress("build", 7, 304)
    bench.told()
    bench.now += 60
    bench.live.progress("build", 7, 304)
    assert [text[:4] for text in bench.told()] == ["MORE"]


def test_a_line_said_again_is_no_progress(bench: Bench) -> None:
    for text, more in (("trying", True), ("other", True), ("trying", False), ("other", False)):
        bench.now += 60
        bench.live.phase("fetch", text)
        assert [told.startswith("MORE") for told in bench.told()] == [more], text
    bench.live.phase("unpack", "it")
    bench.now += 60
    bench.live.phase("fetch", "trying")
    assert [told[:4] for told in bench.told()] == ["MORE", "MORE"]


def test_the_step_of_an_unknown_length(bench: Bench) -> None:
    bench.live.progress("fetch", 131_400_000, 0, "B")
    assert bench.told() == ["MORE fetch: 131 MB"]
    assert bench.state().progress is None


def test_what_was_there_stays_until_it_is_known_better(bench: Bench) -> None:
    earlier = State(NAME, "failed", active=True, key="k", generation="g")
    write_state(bench.root, replace(earlier, error=Failure(14, "it did not compile", "look")))
    live = StatusReporter(PlainReporter(bench.log), bench.root, NAME, selected=True)
    live.phase("plan", "again")
    state = bench.state()
    assert (state.active, state.selected, state.key, state.generation) == (True, True, "k", "g")
    assert state.error is None


WRITER = """\
import sys
from pathlib import Path
from modulus.core.status.state import State
from modulus.host.status.files import write_state
write_state(Path(sys.argv[1]), State("driver-1.0", "build", progress=0.5))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("alive", [True, False])
def test_a_lock_that_is_held_is_the_cause_unless_its_holder_tells(
    bench: Bench, alive: bool
) -> None:
    words, pipe = [sys.executable, "-c", WRITER, str(bench.root)], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as other:
        assert other.stdout and other.stdout.readline() == b"written\n"
        if not alive:
            other.kill()
            other.wait()
        with pytest.raises(LockedError), bench.live:
            raise LockedError("it is held by process 1", "wait for it")
        state = bench.state()
    if alive:
        assert state == State(NAME, "build", progress=0.5)
    else:
        assert state.phase == "failed"
        assert state.error == Failure(20, "it is held by process 1", "wait for it")


FINDING = Finding("dead-gpu", "usable", "warning", "one GPU does not answer", "c", "f")


def test_how_it_ended(bench: Bench) -> None:
    with bench.live as live:
        live.about(key="abc")
        live.phase("verify", "asking")
        live.finish(active=True, selected=True, key="abc", generation="g-1", findings=[FINDING])
    assert bench.told()[-1] == "ready: g-1, 1 finding: one GPU does not answer"
    state = bench.state()
    assert (state.phase, state.generation, state.key) == ("ready", "g-1", "abc")
    assert state.findings == (FINDING,)


def test_an_error_becomes_the_state(bench: Bench) -> None:
    with pytest.raises(BuildError), bench.live as live:
        live.phase("build", "compiling")
        raise BuildError("it did not compile", "read the log")
    assert bench.told()[-1] == "failed: it did not compile (next: read the log)"
    assert bench.state().phase == "failed"
    assert bench.state().error == Failure(14, "it did not compile", "read the log")


def test_a_bug_becomes_the_state(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError), bench.live:
        raise ZeroDivisionError("by zero")
    error = bench.state().error
    assert error
    assert (error.code, error.message) == (1, "ZeroDivisionError: by zero")


@pytest.mark.parametrize("active", [False, True])
def test_a_signal_leaves_what_is_true(bench: Bench, active: bool) -> None:
    write_state(bench.root, State(NAME, "ready", active=active))
    live = StatusReporter(PlainReporter(bench.log), bench.root, NAME)
    with pytest.raises(KeyboardInterrupt), live:
        live.phase("build", "compiling")
        raise KeyboardInterrupt
    state = read_state(bench.root, NAME)
    assert (state.phase if state else None) == ("ready" if active else None)


def test_trouble_with_the_state_file_is_said_once_and_fails_nothing(bench: Bench) -> None:
    (bench.root / "run").write_text("no folder")
    with pytest.raises(ModulusError), bench.live as live:
        live.phase("plan", "one")
        live.phase("build", "two")
        raise ModulusError("cause", "hint")
    assert len(re.findall("warning: the state is not shown: ", bench.log.getvalue())) == 1
    assert bench.told()[-1].startswith("failed: cause")


READY = State(NAME, "ready", active=True, selected=True, generation="g-1")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (READY, "ready: g-1"),
        (replace(READY, phase="watch", generation=None), f"ready: {NAME}"),
        (
            replace(READY, findings=(FINDING, replace(FINDING, severity="info"), FINDING)),
            "ready: g-1, 2 findings: one GPU does not answer",
        ),
        (replace(READY, active=False), "ready: built, not loaded"),
        (
            replace(READY, active=False, findings=(FINDING,)),
            "ready: built, not loaded; one GPU does not answer",
        ),
        (State(NAME, "ready"), "ready: built, no GPU to load it for"),
        (State(NAME, "wait", key="k", selected=True), "waiting for a GPU"),
        (
            replace(READY, phase="wait", error=Failure(10, "one\ntwo", "do this")),
            "failed: one; two (next: do this)",
        ),
    ],
)
def test_a_state_in_a_line(state: State, text: str) -> None:
    assert status_text(state) == text


FAILED = State(NAME, "wait", eta_s=4, error=Failure(14, "cause", "hint"))


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (State(NAME, "build", progress=0.5), None),
        (State(NAME, "wait", key="k"), None),
        (replace(READY, phase="build", progress=0.5), "ready"),
        (replace(READY, phase="watch"), "ready"),
        (FAILED, "failed"),
    ],
)
def test_what_is_left_when_nobody_works_on_it(state: State, phase: str | None) -> None:
    left = stopped(state)
    assert (left.phase if left else None) == phase
    if left:
        assert (left.progress, left.eta_s) == (None, None)
        assert left.error == state.error
