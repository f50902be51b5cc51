"""Tells a person, a terminal or the journal what is going on, always on standard error.

One interface, one implementation per audience: a terminal gets a progress bar, the journal
gets priorities and fields, anything else gets plain lines.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, TextIO

from modulus.core.status.meter import Count, bar, progress_text, seconds_left
from modulus.host.report.journal import Journal
from modulus.host.report.own_unit import journal_fields
from modulus.redact import redact_text

LOG_SECONDS = 8.0
"""Seconds between progress lines in a log, or more until there is progress.

The promise is a silence of ten at most: the difference is what one compile may take.
"""
ERROR, WARNING, INFO = 3, 4, 6
"""Priorities, as in syslog(3)."""

_DRAW_SECONDS = 0.2
_BAR, _BAR_MIN, _BAR_TEXT = 30, 8, 46


class Reporter(Protocol):
    """Where progress and messages go."""

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        """Marks all later reports as about this instance, and the build of this key."""

    def phase(self, phase: str, text: str) -> None:
        """A step began or reached something worth a line."""

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        """``done`` of ``total`` (0: unknown); ``unit`` "B" for bytes, else a plain count."""

    def warn(self, text: str) -> None:
        """Something to know about that stops nothing."""

    def error(self, text: str) -> None:
        """Why it failed, and what to do next; shown as it is."""


def printable(line: str) -> str:
    """``line`` without what would move a terminal's cursor or blur the journal."""
    if line.isprintable():
        return line
    return "".join(
        c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line
    )


class Stopwatch:
    """Times the present step, to say how long the rest of it takes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first = self._latest = Count("", 0, 0)
        self._started = clock()

    def count(self, phase: str, done: int, total: int, unit: str) -> tuple[Count, float | None]:
        """How far the step is, and the seconds that are left of it, None where unknown."""
        # A total may be an estimate that turns out too low.
        count = Count(phase, done, max(done, total) if total else 0, unit)
        now = self._clock()
        if not count.continues(self._latest):
            self._first, self._started = count, now
        self._latest = count
        return count, seconds_left(self._first, count, now - self._started)


class PlainReporter:
    """Lines for a log file or a pipe; progress every few seconds."""

    _every: ClassVar[float] = LOG_SECONDS

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._stopwatch = Stopwatch(clock)
        self._counted = ""
        self._shown = clock()

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        pass

    def phase(self, phase: str, text: str) -> None:
        self._lines(INFO, f"{phase}: {text}")

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        count, left = self._stopwatch.count(phase, done, total, unit)
        now = self._clock()
        if phase != self._counted:
            self._counted, self._shown = phase, now
        if now - self._shown >= self._every:
            self._shown = now
            self._progress(count, left)

    def warn(self, text: str) -> None:
        self._lines(WARNING, f"modulus: warning: {text}")

    def error(self, text: str) -> None:
        self._lines(ERROR, text)

    def _progress(self, count: Count, left: float | None) -> None:
        self._lines(INFO, progress_text(count, left))

    def _lines(self, priority: int, text: str) -> None:
        for line in redact_text(text).splitlines():
            self._line(priority, printable(line))

    def _line(self, _priority: int, line: str) -> None:
        self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        # A reader that went away, as journald does when it restarts, must not end a build.
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()


class JournalReporter(PlainReporter):
    """Entries with fields in the journal; where the journal does not take them, lines with
    syslog priorities, as sd-daemon(3) has them on a service's output.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        journal: Journal | None = None,
    ) -> None:
        super().__init__(stream, clock)
        self._journal = journal
        self._fields: dict[str, str] = {}

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        self._field("INSTANCE", instance)
        self._field("KEY", key)

    def phase(self, phase: str, text: str) -> None:
        self._field("PHASE", phase)
        super().phase(phase, text)

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        self._field("PHASE", phase)
        super().progress(phase, done, total, unit)

    def _field(self, name: str, value: str | None) -> None:
        if value is not None:
            self._fields[f"MODULUS_{name}"] = value

    def _line(self, priority: int, line: str) -> None:
        if self._journal is None or not self._journal.send({
            "MESSAGE": line,
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": "modulus",
            **self._fields,
        }):  # fmt: skip
            self._write(f"<{priority}>{line}\n")


class TerminalReporter(PlainReporter):
    """A bar that is drawn over itself below the lines that stay.

    It never fills the last column, so that it cannot wrap, and asks for the width each
    time, so that it follows a resize.
    """

    _every: ClassVar[float] = _DRAW_SECONDS
    _colours: ClassVar[Mapping[str, str]] = {
        "modulus: error:": "\033[1;31m",
        "modulus: warning:": "\033[1;33m",
        "modulus: hint:": "\033[1m",
    }

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream, clock)
        # The Linux console's fonts have no eighths.
        utf8 = (self._stream.encoding or "").lower().replace("-", "") == "utf8"
        self._blocks = utf8 and os.environ.get("TERM") != "linux"
        # https://no-color.org
        self._colour = not os.environ.get("NO_COLOR")
        self._drawn = False

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        super().progress(phase, done, total, unit)
        if 0 < total <= done:
            self._erase()

    def _progress(self, count: Count, left: float | None) -> None:
        text = progress_text(count, left)
        columns = self._columns() - 1
        cells = min(_BAR, columns - _BAR_TEXT - 3)
        if count.total and cells >= _BAR_MIN:
            text = f"{bar(count, cells, blocks=self._blocks)} {text}"
        self._write(f"\r\033[K{text[:columns]}")
        self._drawn = True

    def _lines(self, priority: int, text: str) -> None:
        self._erase()
        super()._lines(priority, text)

    def _write(self, text: str) -> None:
        if self._colour:
            for prefix, colour in self._colours.items():
                if text.startswith(prefix):
                    text = f"{colour}{prefix}\033[m{text.removeprefix(prefix)}"
        super()._write(text)

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = False
            self._write("\r\033[K")

    def _columns(self) -> int:
        with contextlib.suppress(OSError):
            # A serial console says 0: unknown.
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        return 80


def make_reporter() -> Reporter:
    """The reporter for whoever reads this process's standard error."""
    if _is_journal(os.environ.get("JOURNAL_STREAM", "")):
        return JournalReporter(journal=Journal(always=journal_fields()))
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return TerminalReporter()
    return PlainReporter()


def _is_journal(stream: str) -> bool:
    """Whether standard error is the ``device:inode`` that systemd connected to the journal.

    The variable alone proves nothing: a child whose output goes elsewhere inherits it too
    (systemd.exec(5), JOURNAL_STREAM).
    """
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"
