"""A terminal gets a bar that never wraps, and colours where they are wanted."""

from __future__ import annotations

import pytest

from modulus.host.report.reporter import TerminalReporter
from tests.unit.host.report.conftest import Clock, Terminal


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
