"""Files that others, or a bad disk, may have made anything of, and who reads them.

Each is whole at first, so that what reads it gets somewhere; then it is damaged.
"""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Reader:
    """What ``read`` makes of the file ``path`` below a folder, used as the program does.

    ``make`` puts a sound one there, with all that belongs to it; of that ``read`` returns
    something true.
    """

    name: str
    path: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]


ODD: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, -1, 0, 1, 2, 600, 1 << 40, 1 << 62, 1 << 70, -(1 << 70), 1e308, 1.5,
    math.inf, -math.inf, math.nan, "", "\0", "a\0b", "..", ".", "/", "../../etc/passwd",
    "/etc/passwd", "a/../../b", "\ud800", "\n", "\x1b[2J", "a" * 5000, "ü", "0" * 64, "6.1",
    "gpu-1.0", [], {}, [[]], [{}], {"": 1}, {"a": {}}, ["a", 1, None],
])  # fmt: skip
JSON = st.recursive(
    ODD | st.text(max_size=5) | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
HOSTILE = st.sampled_from([
    b"", b"\0", b"{", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"[" * 200 + b"]" * 200,
    b"9" * 100_000, b"[1e999]", b"[NaN]", b'["\\ud800"]', b"\xff" * 100, b"#!", b"\x7fELF",
    b"[" + b"[]," * 300_000 + b"0]", b"a: &a [*a]", b"{}" * 1000,
    # A zstd frame that says of itself that it has 2^60 bytes, and nothing in it.
    b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + b"\x01\x00\x00",
    # One with a window of 3.75 TB, as much as one may say.
    b"\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00",
])  # fmt: skip


def damaged(sound: bytes) -> st.SearchStrategy[bytes]:
    """Something else in the place of ``sound``, alike or not."""
    kinds = [st.binary(max_size=200), HOSTILE, _torn(sound), JSON.map(_spelled)]
    try:
        value = json.loads(sound)
    except ValueError:
        return st.one_of(*kinds, _torn(sound))
    places = [place for place in _places(value) if place]
    if not places:
        return st.one_of(*kinds)
    changed = st.builds(_changed, st.just(value), st.sampled_from(places), JSON | st.just(GONE))
    # Mostly what is nearly right: it gets furthest.
    return st.one_of(*kinds, *[changed.map(_spelled)] * 8)


GONE = object()
"""Stands for a field or an item that is taken out."""


def _torn(sound: bytes) -> st.SearchStrategy[bytes]:
    def torn(start: int, length: int, put: bytes) -> bytes:
        return sound[:start] + put + sound[start + length :]

    at = st.integers(0, len(sound))
    return st.builds(torn, at, st.integers(0, 8) | at, st.binary(max_size=8))


def _spelled(value: object) -> bytes:
    return json.dumps(value).encode()


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*place, key))


def _changed(value: Any, place: tuple[Any, ...], put: object) -> Any:
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if put is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = put
    return copy


@contextmanager
def in_time(seconds: int = 60) -> Iterator[None]:
    """What waits for ever is interrupted, which no reader ever expects."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
