"""Reads JSON that may be damaged, or made by somebody else: only small and plain values.

It refuses what no record of ours has: deep nesting, huge numbers, NaN and infinities, and text
with NUL or half a character (a lone surrogate), which no path can have.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

MOST = 4 << 20
"""Bytes. The largest record, of a package with its lists, has half a megabyte."""
_MOST_DEPTH = 24
_PER_VALUE = 16
"""Bytes that a value has to take on average: in memory each costs some 80, however short."""
_MOST_DIGITS = 19
_MOST_NUMBER = 1 << 63


def parse_json(data: bytes, most: int = MOST) -> Any:
    """The value of the JSON ``data``, at most ``most`` bytes; ValueError for anything else.

    It has plain mappings, lists, finite numbers of 64 bits, and text.
    """
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    if sum(map(data.count, (b",", b"[", b"{"))) > most // _PER_VALUE:
        raise ValueError("it has too many values")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    # Only an escape can spell unsound text, and most data has none.
    _check(value, _MOST_DEPTH, texts=b"\\u" in data)
    return value


def is_sound(text: str) -> bool:
    """Whether a path, a file or the bus can hold ``text``: no NUL, no half of a character."""
    return "\0" not in text and (
        text.isascii() or not any("\ud800" <= c < "\ue000" for c in text)
    )


def _check(value: object, depth: int, *, texts: bool) -> None:
    if isinstance(value, str):
        if texts and not is_sound(value):
            raise ValueError("it has text that is none")
    elif isinstance(value, (list, dict)):
        if not depth:
            raise ValueError("it is nested too deep")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1, texts=texts)
        if texts and isinstance(value, dict) and not all(map(is_sound, value)):
            raise ValueError("it has text that is none")


def _integer(text: str) -> int:
    # Counted before int(), whose time grows with the square of the digits.
    if len(text) > _MOST_DIGITS + 1 or abs(value := int(text)) >= _MOST_NUMBER:
        raise ValueError("it has a number that is too large")
    return value


def _float(text: str) -> float:
    if len(text) > 64 or abs(value := float(text)) == float("inf"):
        raise ValueError("it has a number that is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_constant)
