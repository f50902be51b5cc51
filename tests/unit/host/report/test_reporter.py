"""Progress and messages: the texts of the contract, and which audience there is."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest

from modulus.host.report.reporter import (
    LOG_SECONDS,
    JournalReporter,
    PlainReporter,
    TerminalReporter,
    make_reporter,
    printable,
)
from tests.unit.host.report.conftest import Clock, Terminal


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


def test_a_log_holds_no_escape() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock)
    reporter.phase("build", "\x1b[31mred\x1b[m")
    reporter.progress("build", 0, 2)
    clock.now += 20
    reporter.progress("build", 1, 2)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", stream.getvalue())
