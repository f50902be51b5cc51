"""The kernel's log: the text of /dev/kmsg as messages."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\d+,\d+,\d+,[^;\n]*;")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_PREFIX = re.compile(r"\w[\w-]*: ")


def parse_messages(text: str) -> tuple[str, ...]:
    """The messages of records, each on one line; text without records is taken by lines.

    A record is ``PRIORITY,NUMBER,TIME,FLAGS;MESSAGE``, then lines of keys and values that
    begin with a space. In the message an unprintable byte, a newline too, is written as
    ``\\xNN`` (the kernel's Documentation/ABI/testing/dev-kmsg).
    """
    messages: list[str] = []
    in_record = False
    for line in text.split("\n"):
        header = _HEADER.match(line)
        if in_record and line.startswith(" "):
            continue
        in_record = header is not None
        message = _unescape(line[header.end() :]) if header else line
        messages.append(_one_line(message))
    return tuple(filter(None, messages))


def _unescape(message: str) -> str:
    raw = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), message)
    # Each byte was escaped by itself.
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")


def _one_line(message: str) -> str:
    """The lines of ``message`` in one; a prefix that a driver gives each line stays once."""
    first, *more = message.splitlines() or [""]
    prefix = _PREFIX.match(first)
    if prefix:
        more = [line.strip().removeprefix(prefix[0]) for line in more]
    return " ".join(" ".join([first, *more]).split())
