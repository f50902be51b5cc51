"""What the journal gets: fields, and nothing that passes for one."""

from __future__ import annotations

import io
import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.host.report import reporter as report
from modulus.host.report.journal import Journal, encode
from modulus.host.report.reporter import JournalReporter, make_reporter
from tests.unit.host.report.conftest import Clock, entry


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
