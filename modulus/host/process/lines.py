"""Cuts a program's raw output into lines."""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST = 64 << 10
"""Bytes of a line that are held at most; a longer one comes in pieces of this size."""

# A carriage return at the very end may be half of a CRLF.
_BREAK = re.compile(rb"\r\n|\n|\r(?!\Z)")


class Lines:
    """Hands each line to ``emit``, without its end and decoded as UTF-8 with replacement.

    A newline ends a line and so does a carriage return: progress that is drawn over itself
    comes as lines.
    """

    def __init__(self, emit: Callable[[str], object]) -> None:
        self._emit = emit
        self._rest = b""

    def feed(self, data: bytes | bytearray) -> None:
        """Takes the next piece of output."""
        *whole, rest = _BREAK.split(self._rest + data)
        for line in whole:
            for start in range(0, len(line) or 1, LONGEST):
                self._hand_over(line[start : start + LONGEST])
        while len(rest) > LONGEST:
            self._hand_over(rest[:LONGEST])
            rest = rest[LONGEST:]
        self._rest = rest

    def close(self) -> None:
        """Takes what came after the last newline as a line."""
        if self._rest:
            self._hand_over(self._rest.rstrip(b"\r"))
            self._rest = b""

    def _hand_over(self, line: bytes) -> None:
        self._emit(line.decode("utf-8", "replace"))
