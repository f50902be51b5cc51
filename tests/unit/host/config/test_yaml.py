"""YAML as far as settings and profiles need it, and what is refused of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.config.schema_types import Problems
from modulus.host.config.yaml import parse_yaml


def parse(text: str) -> tuple[object, list[str]]:
    lines: list[str] = []
    return parse_yaml(text, Problems("", lines)), lines


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("550.40: a\n007: b\nNO: c\n~: d\n", {"550.40": "a", "007": "b", "NO": "c", "~": "d"}),
        ("a: 2024-01-02", {"a": "2024-01-02"}),
        ("a: 0x10de\nb: 1.5\nc: [x]\n", {"a": 0x10DE, "b": 1.5, "c": ["x"]}),
        ("a: no\nb: ~\nc:\n", {"a": False, "b": None, "c": None}),
        ("a: &x [1]\nb: *x\n", {"a": [1], "b": [1]}),
    ],
)  # fmt: skip
def test_yaml(text: str, value: object) -> None:
    assert parse(text) == (value, [])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", "line 2: c is there twice"),
        ("[a]: 1", "line 1: a key must be text"),
        ("a: !!python/object/apply:os.abort []", "line 1: could not determine"),
        ("a: !!timestamp x", "line 1: could not determine a constructor for the tag"),
        ("a: !!int x", "is not YAML, or has a value that is none"),
        ("a: !!bool x", "is not YAML, or has a value that is none"),
        ("a: 1\n--- \nb: 2", "line 2: but found another document"),
        ("a: *b", "line 1: found undefined alias"),
        ("a: 1\n\tb: 2", "line 2: "),
        ("a: \x07", "line 1: a character that text does not have"),
        ("a: ééé\n\n\n\x07\n\n\n\n", "line 4: a character that text does not have"),
        ("- " * 100_000, "is nested more than 50 deep"),
        ("{a: " * 60 + "}" * 60, "is nested more than 50 deep"),
        ("[" * 60, "is nested more than 50 deep"),
        (f"a: [{'1,' * 100_000}]", "has more than 20000 values"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{b}: &{b} [{f'*{a},' * 9}]\n" for a, b in pairwise("abcdefghij")),
            "has more than 20000 values",
        ),
        ("a: &a [*a]", "a is part of itself"),
        ("a: &a x\nb: &a {c: [*a]}", "a is part of itself"),
        (f"a: {'9' * 500_000}", "line 1: a number that is too large"),
        (f"a: 0x{'f' * 500_000}", "line 1: a number that is too large"),
        (f"a: 1{':59' * 10_000}", "line 1: a number that is too large"),
        ("b: 1\na: .inf", "line 2: a number that is none"),
        ("a: .nan", "line 1: a number that is none"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text: str, line: str) -> None:
    value, lines = parse(text)
    assert value is None
    assert len(lines) == 1 and lines[0].startswith(line)


def test_yaml_without_an_end_to_its_depth_is_refused() -> None:
    _, (line,) = parse("[" * 100_000)
    # A newer PyYAML looks so far ahead that its own limit comes first.
    assert line in ("is nested more than 50 deep", "line 1: exceeded maximum nesting depth")


def test_every_repeated_key_is_told() -> None:
    assert parse("a: 1\na: 2\nb: {c: 1, c: 1}\n")[1] == [
        "line 2: a is there twice",
        "line 3: c is there twice",
    ]


@given(st.one_of(st.text(), st.text("abc:-[]{}&*!#|>'\"%@`,? \n\t0123456789.~<="), st.binary()))
def test_any_text_is_plain_values_or_problems(text: str | bytes) -> None:
    value, lines = parse(text if isinstance(text, str) else text.decode("latin-1"))
    assert value is None or not lines
    assert isinstance(value, (type(None), bool, int, float, str, list, dict))
    assert all("\n" not in line for line in lines)
