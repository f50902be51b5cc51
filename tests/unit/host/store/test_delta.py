"""Files as patches against others: what they cost, and that they are read back to the bit."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modulus.host.store.delta import PIECE, make_patch, read_patch

CHANCE = random.Random(7)
NOISE = CHANCE.randbytes(12 * PIECE)  # What compresses only where it is the same.


def patched(new: bytes, base: bytes, limit: int = 1 << 30) -> bytes | None:
    target = io.BytesIO()
    made = make_patch(io.BytesIO(new), io.BytesIO(base), target, limit)
    return target.getvalue() if made else None


def size_of(new: bytes, base: bytes) -> int:
    """How large the patch is, which is read back."""
    patch = patched(new, base)
    assert patch is not None
    assert b"".join(read_patch(io.BytesIO(patch), io.BytesIO(base))) == new
    return len(patch)


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(NOISE, id="the same"),
        pytest.param(NOISE[3 * PIECE :] + bytes(PIECE), id="moved forward"),
        pytest.param(CHANCE.randbytes(5 * PIECE) + NOISE, id="moved back"),
        pytest.param(NOISE + bytes(PIECE), id="longer"),
        pytest.param(
            NOISE[: 5 * PIECE] + CHANCE.randbytes(PIECE) + NOISE[5 * PIECE :], id="cut out"
        ),
        pytest.param(NOISE[: 5 * PIECE] + NOISE[6 * PIECE :], id="put in"),
        pytest.param(NOISE[6 * PIECE :] + NOISE[: 6 * PIECE], id="the other way round"),
    ],
)
def test_content_is_found_where_it_moved_to(base: bytes) -> None:
    there = sum(NOISE[at : at + 64] in base for at in range(0, len(NOISE), PIECE))
    missing = 12 - there
    if base == NOISE[6 * PIECE :] + NOISE[: 6 * PIECE]:
        missing = 6  # The base is read forward only.
    # What is not found moves on too: some of what lies before is lost by it.
    assert size_of(NOISE, base) < (missing + 2) * PIECE


def test_a_change_here_and_there_costs_little() -> None:
    base = bytearray(NOISE)
    for at in range(0, len(base), 10_000):
        base[at] ^= 1
    assert size_of(NOISE, bytes(base)) < len(NOISE) // 50


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(1, PIECE)), max_size=6),
    st.lists(st.tuples(st.integers(0, 11), st.integers(1, PIECE)), max_size=6),
)
def test_whatever_the_two_have_in_common(
    new: list[tuple[int, int]], base: list[tuple[int, int]]
) -> None:
    def made(parts: list[tuple[int, int]]) -> bytes:
        return b"".join(NOISE[at * PIECE : at * PIECE + size] for at, size in parts)

    size_of(made(new), made(base))


def test_what_is_larger_than_the_limit_is_no_patch() -> None:
    assert patched(NOISE, CHANCE.randbytes(PIECE), limit=3 * PIECE) is None
    assert patched(NOISE, NOISE, limit=PIECE) is not None


def test_a_patch_against_something_else_is_not_read() -> None:
    patch = patched(NOISE, NOISE)
    assert patch is not None
    for base in (NOISE[: 2 * PIECE], b""):
        with pytest.raises(ValueError, match="does not fit"):
            list(read_patch(io.BytesIO(patch), io.BytesIO(base)))
