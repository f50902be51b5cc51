"""Progress in words and as a bar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.status.meter import Count, bar, progress_text, seconds_left


@pytest.mark.parametrize(
    ("count", "left", "text"),
    [
        (Count("build", 131, 304), 52.4, "build: 43 % (131/304), 0:52 left"),
        (Count("build", 0, 304), None, "build: 0 % (0/304)"),
        (Count("build", 304, 304), None, "build: 100 % (304/304)"),
        (Count("build", 1, 304), 754, "build: 0 % (1/304), 12:34 left"),
        (Count("build", 1, 304), 3661, "build: 0 % (1/304), 1:01:01 left"),
        (
            Count("fetch", 131_400_000, 304_000_000, "B"),
            9,
            "fetch: 43 % (131/304 MB), 0:09 left",
        ),
        (Count("fetch", 1_500_000, 3_000_000, "B"), None, "fetch: 50 % (1.5/3.0 MB)"),
        (Count("fetch", 131_400_000, 0, "B"), None, "fetch: 131 MB"),
        (Count("unpack", 12, 0), None, "unpack: 12"),
    ],
)
def test_progress_text(count: Count, left: float | None, text: str) -> None:
    assert progress_text(count, left) == text


@pytest.mark.parametrize(
    ("first", "now", "spent", "left"),
    [
        (Count("b", 0, 100), Count("b", 25, 100), 10, 30),
        # A resumed download: 200 were there before.
        (Count("b", 200, 400), Count("b", 250, 400), 10, 30),
        (Count("b", 200, 400), Count("b", 200, 400), 10, None),
        (Count("b", 0, 100), Count("b", 25, 100), 0.5, None),
        (Count("b", 0, 100), Count("b", 100, 100), 10, None),
        (Count("b", 0, 0), Count("b", 5, 0), 10, None),
    ],
)
def test_seconds_left(first: Count, now: Count, spent: float, left: float | None) -> None:
    assert seconds_left(first, now, spent) == left


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(1, 60), st.booleans())
def test_a_bar_has_its_length_and_is_full_only_at_the_end(
    done: int, total: int, cells: int, blocks: bool
) -> None:
    drawn = bar(Count("b", min(done, total), total), cells, blocks=blocks)
    assert len(drawn) == cells + 2
    assert (drawn[1:-1] in ("█" * cells, "#" * cells)) == (done >= total)


def test_bars() -> None:
    assert bar(Count("b", 43, 100), 10, blocks=True) == "▕████▎     ▏"
    assert bar(Count("b", 43, 100), 10, blocks=False) == "[####      ]"
