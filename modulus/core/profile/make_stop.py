"""Where make stopped: the message for which it did so, and what was said before it.

A build goes on after much that looks like an error: a makefile asks for what need not be there,
a test of the kernel fails since the answer is no. What ended it is told by make itself, as
"*** [FILE:LINE: TARGET] Error 2" or "FILE:LINE: *** TEXT.  Stop.", by the innermost make first
and then by each one that had called it (the manual of GNU make, "Error messages").
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

_MAKE = re.compile(r"(?:\S*/)?g?make(?:\[(?P<depth>\d+)\])?: \*\*\* (?P<text>.+)")
_FILE = re.compile(r"\S+:\d+: \*\*\* (?P<text>.+)")
_SCRIPT = re.compile(r"build\.sh: error: ")
_TARGET = re.compile(r"\[(?:[^\]]*:\d+: )?(?P<target>[^\]]+)\] (?P<end>.*)")
_STATUS = re.compile(r"Error \d+")
_WAITING = "Waiting for unfinished jobs"
_LATER = (_WAITING, "Deleting ")
"""How texts begin that follow what stopped make."""

_INNERMOST = 1 << 16
_KEPT = 400
"""Lines before make's own that may say why; a compiler that has much to say gives up itself."""


@dataclass(frozen=True)
class Stop:
    """Why make stopped, by its own message ``line``.

    ``said`` is what was put out before that, from the target's first line on where that shows,
    and ``own`` says whether it does. ``target`` is "" where make had none. ``tells`` says that
    the line itself has the cause.
    """

    line: str
    said: tuple[str, ...] = ()
    target: str = ""
    own: bool = False
    tells: bool = False

    @property
    def named(self) -> tuple[str, ...]:
        """Those of ``said`` that name the target's source, object or module: other jobs may
        have spoken meanwhile."""
        stem = self.target.rpartition("/")[2].partition(".")[0]
        if not stem:
            return ()
        name = re.compile(rf"(?<![\w-]){re.escape(stem)}\.")
        return tuple(line for line in self.said if name.search(line))


class StopFinder:
    """Reads a log as it grows and keeps the last stop: make goes on after a failure that a
    makefile bears."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self._said: deque[str] = deque(maxlen=_KEPT)
        self._depth = -1
        self._waits = False

    @property
    def said(self) -> tuple[str, ...]:
        """What came since make's last message."""
        return tuple(self._said)

    def line(self, line: str) -> None:
        """Takes the next line of the log."""
        found = _MAKE.search(line) or _FILE.search(line)
        if found is None and not _SCRIPT.match(line):
            self._said.append(line)
            return
        text = found["text"] if found else line
        if text.startswith(_LATER):
            self._waits |= text.startswith(_WAITING)
            return
        depth = int(found.groupdict().get("depth") or 0) if found else 0
        if found and found.re is _FILE:
            depth = _INNERMOST
        if not self._follows(depth, text):
            self.stop = self._new(line, text)
            self._waits = False
        self._depth = depth
        self._said.clear()

    def _follows(self, depth: int, text: str) -> bool:
        """Whether the message at ``depth`` only says that what it called has stopped, or that
        another job failed, too, before make ended."""
        if self.stop is None or not _TARGET.search(text):
            return False
        return depth < self._depth or (depth == self._depth and self._waits)

    def _new(self, line: str, text: str) -> Stop:
        said = tuple(self._said)
        found = _TARGET.search(text)
        if found is None:
            return Stop(line, said, tells=True)
        target = found["target"]
        # kbuild's own words, such as "  CC [M]  /build/a.o".
        begun = re.compile(rf"  [A-Z]\S*(?: \[M\])? +{re.escape(target)}")
        starts = [index for index, one in enumerate(said) if begun.fullmatch(one.rstrip())]
        return Stop(
            line,
            said[starts[-1] + 1 :] if starts else said,
            target,
            own=bool(starts),
            tells=not _STATUS.fullmatch(found["end"]),
        )
