from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.instance import Instance, parse_instance
from modulus.errors import UsageError

EXAMPLE = "driver-1.2"


@pytest.mark.parametrize(
    ("text", "profile", "version"),
    [
        ("nvidia-535.309.01", "nvidia", "535.309.01"),
        ("v4l2loopback-0.12.7", "v4l2loopback", "0.12.7"),
        ("nvidia-tesla-535-535.1", "nvidia-tesla-535", "535.1"),
        ("a_b-1rc1", "a_b", "1rc1"),
    ],
)
def test_splits_at_the_last_hyphen_before_a_digit(
    text: str, profile: str, version: str
) -> None:
    instance = parse_instance(text, EXAMPLE)
    assert instance == Instance(profile, version)
    assert str(instance) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nvidia",
        "nvidia-",
        "-1",
        "Nvidia-1",
        "nvidia-1/2",
        "nvidia-1..2",
        "nvidia-1\n",
        "../x-1",
    ],
)
def test_refuses_a_bad_name_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_instance(text, EXAMPLE)
    assert EXAMPLE in caught.value.hint


@given(st.text())
def test_never_lets_a_path_through(text: str) -> None:
    try:
        instance = parse_instance(text, EXAMPLE)
    except UsageError:
        return
    assert "/" not in str(instance) and ".." not in str(instance)
