from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.config.units import parse_duration, parse_size


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        ("0", 0.0),
        (90, 90.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("90s", 90.0),
        ("15min", 900.0),
        ("15 min", 900.0),
        ("1h 30min", 5400.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("2 hours", 7200.0),
        (" 1d ", 86400.0),
        ("1w", 604800.0),
        ("1.5h", 5400.0),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "min", "-1", -1, "1x", "1h30", "30 1h", "1:30", "15MIN", "infinity", True,
        None, [], float("nan"), float("inf"), "9" * 400, 10**400, "11 years", "٣s",
    ],
)  # fmt: skip
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (1, 1),
        ("512", 512),
        ("512B", 512),
        ("1K", 1024),
        ("512M", 512 << 20),
        ("8G", 8 << 30),
        ("8 GiB", 8 << 30),
        ("1.5G", 3 << 29),
        ("1T", 1 << 40),
    ],
)
def test_sizes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", ["", "G", 0, "0", "0.1", -1, "-1G", "8g", "8GB", "8Gi", 1.5, True, None, "9" * 400]
)
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(value)


@given(st.one_of(st.text(), st.text("0123456789. hmsKMGB"), st.floats(), st.integers()))
def test_anything_is_in_bounds_or_refused(value: object) -> None:
    for parse, most in ((parse_duration, 10 * 366 * 86400.0), (parse_size, 1 << 60)):
        try:
            assert 0 <= parse(value) <= most
        except ValueError as error:
            assert str(error).startswith("must be a ")


@given(st.integers(0, 500), st.integers(0, 59))
def test_parts_add_up(hours: int, minutes: int) -> None:
    assert parse_duration(f"{hours}h {minutes}min") == hours * 3600 + minutes * 60
