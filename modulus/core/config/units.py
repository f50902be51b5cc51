"""Durations and sizes as people write them, in the units of systemd.time(7) and systemd."""

from __future__ import annotations

import math
import re

_SECONDS = {
    "ms": 1e-3,
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400.0),
}
_LONGEST = 10 * 366 * 86400.0
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGTP])(?:iB)?|B)?")
_LARGEST = 1 << 60


def parse_duration(value: object) -> float:
    """Seconds from a number or from text such as ``15min``, ``1h 30min``, ``500ms``.

    Raises ValueError for anything else and for more than ten years.
    """
    seconds = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(min(value, _LARGEST))
    elif isinstance(value, str):
        seconds = _sum_of_parts(value.strip())
    if not 0 <= seconds <= _LONGEST:
        raise ValueError("must be a duration, such as 90s, 15min or 1h 30min")
    return seconds


def parse_size(value: object) -> int:
    """Bytes from a number or from text such as ``512M``, ``1.5G``; K is 1024.

    Raises ValueError for anything else, for zero and for more than an exbibyte.
    """
    size = 0
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        factor = 1024 ** (" KMGTP".index(match[2]) if match[2] else 0)
        size = int(min(float(match[1]) * factor, 2.0 * _LARGEST))
    if not 0 < size <= _LARGEST:
        raise ValueError("must be a size, such as 512M or 8G")
    return size


def _sum_of_parts(text: str) -> float:
    """Seconds; NaN for text that is no duration."""
    total, at = (math.nan if not text else 0.0), 0
    while at < len(text):
        match = _PART.match(text, at)
        # A number without a unit means seconds, but only by itself.
        if not match or (not match[2] and match[0] != text):
            return math.nan
        factor = _SECONDS.get(match[2] or "s")
        if factor is None:
            return math.nan
        total += float(match[1]) * factor
        at = match.end()
    return total
