"""What a system says of itself, in os-release(5)."""

from __future__ import annotations

import re
import shlex


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of an os-release(5) file; other lines are skipped."""
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Z0-9_]+", name, re.ASCII):
            continue
        try:
            values[name] = "".join(shlex.split(value))
        except ValueError:
            continue
    return values
