from __future__ import annotations

from typing import Any

import pytest

from modulus.core.store.keys import UNKNOWN, Difference, build_key, differences, nearest

INPUTS: dict[str, Any] = {"source": "aa", "profile": {"make": {"CC": "gcc"}, "build": ["m"]}}


def changed(**more: Any) -> dict[str, Any]:
    return {**INPUTS, **more}


def test_key_ignores_order_and_sees_every_value() -> None:
    assert build_key(dict(reversed(INPUTS.items()))) == build_key(INPUTS)
    assert build_key(changed(source="ab")) != build_key(INPUTS)
    nested = changed(profile={"make": {"CC": "clang"}, "build": ["m"]})
    assert build_key(nested) != build_key(INPUTS)


def test_no_key_while_an_input_is_unknown() -> None:
    assert build_key(changed(headers=UNKNOWN)) is None


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (changed(), ()),
        (changed(source="ab"), (Difference("source", "aa", "ab"),)),
        (changed(extra=2), (Difference("extra", None, "2"),)),
        (
            changed(profile={"make": {"CC": "clang"}, "build": ["m"]}),
            (Difference("profile.make.CC", "gcc", "clang"),),
        ),
        (
            changed(profile={"make": {"CC": "gcc"}, "build": ["m", "n"]}),
            (Difference("profile.build", '["m"]', '["m","n"]'),),
        ),
    ],
)
def test_differences_name_the_input(
    new: dict[str, Any], expected: tuple[Difference, ...]
) -> None:
    assert differences(INPUTS, new) == expected


def test_nearest_is_the_one_with_fewest_differences() -> None:
    far = {"source": "zz", "profile": {}}
    near = changed(source="ab")
    assert nearest(INPUTS, [far, near]) == (Difference("source", "ab", "aa"),)
    assert nearest(INPUTS, []) is None
