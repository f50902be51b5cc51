"""Progress and messages: the texts of the contract, and what each audience gets."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.status.meter import Count, bar, progress_text, seconds_left
from modulus.host.report import reporter as report
from modulus.host.report.journal import Journal, encode
from modulus.host.report.reporter import (
    LOG_SECONDS,
    JournalReporter,
    PlainReporter,
    TerminalReporter,
    make_reporter,
    printable,
)


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A real terminal: what is written to ``stream`` can be read back, and its size set."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(
            slave, "w", encoding=encoding, errors="backslashreplace"
        )

    def resize(self, columns: int) -> None:
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def read(self) -> str:
        """All that was written since the last call: up to a mark, for it arrives later."""
        mark = "\0"
        self.stream.write(mark)
        self.stream.flush()
        data = b""
        while not data.endswith(mark.encode()):
            data += os.read(self._master, 65536)
        return data.decode(self.stream.encoding).removesuffix(mark)

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Terminal()
    made.resize(80)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("count", "left", "text"),
    [
        (Count("build", 131, 304), 52.4, "build: 43 % (131/304), 0:52 left"),
        (Count("build", 0, 304), None, "build: 0 % (0/304)"),
        (Count("build", 304, 304), None, "build: 100 % (304/304)"),
        (Count("build", 1, 304), 754, "build: 0 % (1/304), 12:34 left"),
        (Count("build", 1, 304), 3661, "build: 0 % (1/304), 1:01:01 left"),
        (
            Count("fetch", 131_400_000, 304_000_000, "B"),
            9,
            "fetch: 43 % (131/304 MB), 0:09 left",
        ),
        (Count("fetch", 1_500_000, 3_000_000, "B"), None, "fetch: 50 % (1.5/3.0 MB)"),
        (Count("fetch", 131_400_000, 0, "B"), None, "fetch: 131 MB"),
        (Count("unpack", 12, 0), None, "unpack: 12"),
    ],
)
def test_progress_text(count: Count, left: float | None, text: str) -> None:
    assert progress_text(count, left) == text


@pytest.mark.parametrize(
    ("first", "now", "spent", "left"),
    [
        (Count("b", 0, 100), Count("b", 25, 100), 10, 30),
        # A resumed download: 200 were there before.
        (Count("b", 200, 400), Count("b", 250, 400), 10, 30),
        (Count("b", 200, 400), Count("b", 200, 400), 10, None),
        (Count("b", 0, 100), Count("b", 25, 100), 0.5, None),
        (Count("b", 0, 100), Count("b", 100, 100), 10, None),
        (Count("b", 0, 0), Count("b", 5, 0), 10, None),
    ],
)
def test_seconds_left(first: Count, now: Count, spent: float, left: float | None) -> None:
    assert seconds_left(first, now, spent) == left


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(1, 60), st.booleans())
def test_a_bar_has_its_length_and_is_full_only_at_the_end(
    done: int, total: int, cells: int, blocks: bool
) -> None:
    drawn = bar(Count("b", min(done, total), total), cells, blocks=blocks)
    assert len(drawn) == cells + 2
    assert (drawn[1:-1] in ("█" * cells, "#" * cells)) == (done >= total)


def test_bars() -> None:
    assert bar(Count("b", 43, 100), 10, blocks=True) == "▕████▎     ▏"
    assert bar(Count("b", 43, 100), 10, blocks=False) == "[####      ]"


def test_a_log_gets_a_progress_line_every_few_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock)
    times: list[int] = []
    for second in range(60):
        clock.now = 1000 + second
        reporter.progress("build", second, 60)
        if len(stream.getvalue().splitlines()) > len(times):
            times.append(second)
    assert stream.getvalue().splitlines()[0] == "build: 13 % (8/60), 0:52 left"
    gaps = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
    assert all(LOG_SECONDS <= gap < 10 for gap in gaps), times


def test_a_step_is_timed_from_its_own_beginning() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock)
    reporter.progress("fetch", 0, 100, "B")
    clock.now += 100
    reporter.progress("build", 0, 100)
    assert stream.getvalue() == ""
    clock.now += 10
    reporter.progress("build", 50, 100)
    clock.now += 10
    # Counting starts over within a phase: another kernel.
    reporter.progress("build", 0, 100)
    clock.now += 10
    reporter.progress("build", 20, 100)
    assert stream.getvalue().splitlines() == [
        "build: 50 % (50/100), 0:10 left",
        "build: 0 % (0/100)",
        "build: 20 % (20/100), 0:40 left",
    ]


def test_counts_that_jump_back_and_forth_are_still_shown() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock)
    for second in range(20):
        clock.now += 1
        reporter.progress("fetch", 5 + second % 2, 10)
    assert len(stream.getvalue().splitlines()) == 2


def test_a_total_that_was_too_low_never_shows_more_than_all() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock)
    reporter.progress("build", 300, 304)
    clock.now += 20
    reporter.progress("build", 310, 304)
    assert stream.getvalue() == "build: 100 % (310/310)\n"


def test_plain_lines() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    reporter.phase("build", "compiling five modules")
    reporter.warn("memory is not limited")
    reporter.error("modulus: error: cause\nmodulus: hint: next step")
    assert stream.getvalue() == (
        "build: compiling five modules\n"
        "modulus: warning: memory is not limited\n"
        "modulus: error: cause\n"
        "modulus: hint: next step\n"
    )


def test_the_journal_gets_a_priority_on_every_line() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = JournalReporter(stream, clock)
    reporter.phase("build", "one\ntwo")
    reporter.progress("build", 1, 4)
    clock.now += 10
    reporter.progress("build", 2, 4)
    reporter.warn("careful")
    reporter.error("modulus: error: cause\nmodulus: hint: next step")
    assert stream.getvalue().splitlines() == [
        "<6>build: one",
        "<6>two",
        "<6>build: 50 % (2/4), 0:20 left",
        "<4>modulus: warning: careful",
        "<3>modulus: error: cause",
        "<3>modulus: hint: next step",
    ]


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """What listens where journald would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.setblocking(False)
        yield server


def entry(server: socket.socket) -> dict[str, str]:
    """The next entry; all of these have one line a field."""
    lines = server.recv(65536).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_the_journal_gets_fields(journald: socket.socket, tmp_path: Path) -> None:
    stream, clock = io.StringIO(), Clock()
    journal = Journal(str(tmp_path / "journal"), {"OBJECT_SYSTEMD_UNIT": "a.service"})
    reporter = JournalReporter(stream, clock, journal)
    reporter.about(instance="driver-1.0")
    reporter.phase("plan", "miss: kernel")
    assert entry(journald) == {
        "OBJECT_SYSTEMD_UNIT": "a.service",
        "MESSAGE": "plan: miss: kernel",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "modulus",
        "MODULUS_INSTANCE": "driver-1.0",
        "MODULUS_PHASE": "plan",
    }
    reporter.about(key="a" * 64)
    reporter.progress("build", 1, 4)
    clock.now += 10
    reporter.progress("build", 2, 4)
    told = {"OBJECT_SYSTEMD_UNIT": "a.service", "SYSLOG_IDENTIFIER": "modulus"}
    told |= {"MODULUS_INSTANCE": "driver-1.0"}
    told |= {"MODULUS_PHASE": "build", "MODULUS_KEY": "a" * 64}
    text = "build: 50 % (2/4), 0:20 left"
    assert entry(journald) == {"MESSAGE": text, "PRIORITY": "6", **told}
    reporter.error("modulus: error: cause = 1\nmodulus: hint: next step")
    text = "modulus: error: cause = 1"
    assert entry(journald) == {"MESSAGE": text, "PRIORITY": "3", **told}
    assert entry(journald)["MESSAGE"] == "modulus: hint: next step"
    reporter.warn("careful")
    assert entry(journald)["PRIORITY"] == "4"
    assert stream.getvalue() == ""
    journal.close()


def test_where_the_journal_is_away_the_stream_gets_it(tmp_path: Path) -> None:
    stream = io.StringIO()
    path = tmp_path / "journal"
    journal = Journal(str(path))
    reporter = JournalReporter(stream, journal=journal)
    reporter.phase("build", "one")
    assert stream.getvalue() == "<6>build: one\n"
    # And is back: journald was restarted.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        reporter.phase("build", "two")
        assert entry(server)["MESSAGE"] == "build: two"
    reporter.error("three")
    assert stream.getvalue() == "<6>build: one\n<3>three\n"
    journal.close()


def test_values_of_several_lines_have_a_length() -> None:
    size = (7).to_bytes(8, "little")
    assert encode({"A": "x=y", "B": "one\ntwo", "C": ""}) == (
        b"A=x=y\nB\n" + size + b"one\ntwo\nC=\n"
    )


@given(st.dictionaries(st.from_regex("[A-Z]{1,9}", fullmatch=True), st.text()))
def test_no_value_can_pass_for_a_field(fields: dict[str, str]) -> None:
    data, read = encode(fields), {}
    while data:
        line, _, data = data.partition(b"\n")
        name, sign, value = line.partition(b"=")
        if not sign:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        read[name.decode()] = value.decode()
    told = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}
    assert read == told


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain, with ünïcode and a\ttab", "plain, with ünïcode and a\ttab"),
        ("a\x1b[2Jb", "a\N{REPLACEMENT CHARACTER}[2Jb"),
        ("over\rwritten", "over\N{REPLACEMENT CHARACTER}written"),
    ],
)
def test_nothing_that_is_reported_can_steer_the_terminal(line: str, shown: str) -> None:
    assert printable(line) == shown


def test_a_reader_that_went_away_ends_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        reporter = PlainReporter(stream)
        reporter.phase("build", "x" * 100)
        reporter.error("modulus: error: cause")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


def test_a_terminal_gets_one_line_drawn_over_itself(terminal: Terminal) -> None:
    clock = Clock()
    reporter = TerminalReporter(terminal.stream, clock)
    reporter.phase("build", "compiling")
    assert terminal.read() == "build: compiling\r\n"
    reporter.progress("build", 0, 304)
    clock.now += 60
    reporter.progress("build", 131, 304)
    assert terminal.read() == (
        "\r\033[K▕████████████▉                 ▏ build: 43 % (131/304), 1:19 left"
    )
    reporter.progress("build", 132, 304)
    assert terminal.read() == "", "drawn at most five times a second"
    reporter.phase("build", "done")
    assert terminal.read() == "\r\033[Kbuild: done\r\n"


def test_the_bar_goes_when_the_step_is_complete(terminal: Terminal) -> None:
    clock = Clock()
    reporter = TerminalReporter(terminal.stream, clock)
    for done in (0, 1, 2):
        clock.now += 1
        reporter.progress("build", done, 2)
    assert terminal.read().endswith("\r\033[K")


@pytest.mark.parametrize("columns", [2, 10, 20, 40, 57, 58, 60, 80, 200])
def test_a_line_never_wraps(terminal: Terminal, columns: int) -> None:
    clock = Clock()
    reporter = TerminalReporter(terminal.stream, clock)
    reporter.progress("provision", 0, 304_000_000, "B")
    # Resized while it runs.
    terminal.resize(columns)
    clock.now += 4000
    reporter.progress("provision", 131_000_000, 304_000_000, "B")
    shown = terminal.read().removeprefix("\r\033[K")
    assert 0 < len(shown) < columns
    assert ("█" in shown) == (columns >= 58)


def test_a_terminal_that_does_not_know_its_width(terminal: Terminal) -> None:
    terminal.resize(0)
    clock = Clock()
    reporter = TerminalReporter(terminal.stream, clock)
    reporter.progress("build", 0, 2)
    clock.now += 5
    reporter.progress("build", 1, 2)
    assert terminal.read() == f"\r\033[K▕{'█' * 15}{' ' * 15}▏ build: 50 % (1/2), 0:05 left"


@pytest.mark.parametrize(("encoding", "term"), [("latin-1", "xterm"), ("utf-8", "linux")])
def test_a_terminal_without_block_characters(
    monkeypatch: pytest.MonkeyPatch, encoding: str, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    terminal = Terminal(encoding)
    clock = Clock()
    reporter = TerminalReporter(terminal.stream, clock)
    reporter.progress("build", 0, 2)
    clock.now += 5
    reporter.progress("build", 1, 2)
    assert f"[{'#' * 15}{' ' * 15}] build: 50 %" in terminal.read()
    terminal.close()


def test_colours_only_where_they_are_wanted(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    TerminalReporter(terminal.stream).error("modulus: error: cause")
    assert terminal.read() == "\033[1;31mmodulus: error:\033[m cause\r\n"
    monkeypatch.setenv("NO_COLOR", "1")
    TerminalReporter(terminal.stream).error("modulus: error: cause")
    assert terminal.read() == "modulus: error: cause\r\n"


def test_the_audience_is_told_from_standard_error(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert type(make_reporter()) is TerminalReporter
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_reporter()) is PlainReporter
    with open(tmp_path / "log", "w") as log:
        monkeypatch.setattr(sys, "stderr", log)
        assert type(make_reporter()) is PlainReporter
        # Inherited from a service, but the output goes elsewhere.
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
        assert type(make_reporter()) is PlainReporter
        status = os.fstat(log.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert type(make_reporter()) is JournalReporter


def test_the_journal_is_told_the_unit(
    journald: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Journal] = []

    def make(always: dict[str, str]) -> Journal:
        made.append(Journal(str(tmp_path / "journal"), always))
        return made[0]

    monkeypatch.setattr(report, "Journal", make)
    monkeypatch.setattr(report, "journal_fields", lambda: {"OBJECT_SYSTEMD_UNIT": "a.service"})
    with open(tmp_path / "log", "w") as log:
        monkeypatch.setattr(sys, "stderr", log)
        status = os.fstat(log.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        make_reporter().error("modulus: error: cause")
    assert entry(journald)["OBJECT_SYSTEMD_UNIT"] == "a.service"
    made[0].close()


def test_a_log_holds_no_escape() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock)
    reporter.phase("build", "\x1b[31mred\x1b[m")
    reporter.progress("build", 0, 2)
    clock.now += 20
    reporter.progress("build", 1, 2)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", stream.getvalue())
