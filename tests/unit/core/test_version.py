from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.version import ANY, Range, version_tuple


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("6.12.117+deb12-amd64", (6, 12, 117)),
        ("6.1.0-56-cloud-amd64", (6, 1, 0)),
        ("535.309.01", (535, 309, 1)),
        ("6.8.0rc1", (6, 8, 0)),
        ("7", (7,)),
    ],
)
def test_leading_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_tuple(text) == numbers


@pytest.mark.parametrize("text", ["", "v6.1", "-1", "deb12", ".5"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="does not begin with a version"):
        version_tuple(text)
    with pytest.raises(ValueError, match="does not begin with a version"):
        ANY.contains(text)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("", ["0", "6.1.0-56-amd64"], []),
        (">=6.8,<6.13", ["6.8", "6.12.117+deb12-amd64"], ["6.7.99", "6.13", "6.13.0-1"]),
        (">= 6.8 , < 6.13", ["6.8"], ["6.13"]),
        ("<560", ["535.309.01", "555.58"], ["560", "560.28.03"]),
        ("<=6.8", ["6.8", "6.8.0"], ["6.8.1"]),
        (">6.8", ["6.8.1"], ["6.8", "6.8.0-1-amd64"]),
        ("==6.8", ["6.8", "6.8.0.0"], ["6.8.1"]),
        (">=6.10", ["6.10", "6.11"], ["6.9"]),
    ],
)
def test_ranges(text: str, inside: list[str], outside: list[str]) -> None:
    parsed = Range.parse(text)
    assert [version for version in inside if not parsed.contains(version)] == []
    assert [version for version in outside if parsed.contains(version)] == []
    assert Range.parse(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["6.8", "=>6", ">=6.8,", ">=x", ">=6.8 <6.9", "~6", ">=6.8.*"])
def test_bad_ranges(text: str) -> None:
    with pytest.raises(ValueError, match="must be a range of versions"):
        Range.parse(text)


NUMBERS = st.lists(st.integers(0, 999), min_size=1, max_size=4)


@given(NUMBERS, NUMBERS)
def test_a_bound_splits_all_versions_in_two(bound: list[int], version: list[int]) -> None:
    at, of = (".".join(map(str, numbers)) for numbers in (bound, version))
    below, from_there = Range.parse(f"<{at}"), Range.parse(f">={at}")
    assert below.contains(of) != from_there.contains(of)
    assert Range.parse(f"<={at}").contains(of) == (not Range.parse(f">{at}").contains(of))


@given(st.text())
def test_any_text_is_a_range_or_refused(text: str) -> None:
    try:
        parsed = Range.parse(text)
    except ValueError:
        return
    assert Range.parse(str(parsed)) == parsed
