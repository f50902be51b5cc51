from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.config.schema_types import (
    BOOLEAN,
    ListOf,
    MapOf,
    Maybe,
    Problems,
    Record,
    Schema,
    choice,
    integer,
    text,
)
from modulus.errors import ConfigError

WORD = text(r"[a-z]+", "a word")
NUMBER = integer(1, 9, "a digit from 1 to 9")
THING = Record({"url": WORD, "trusted": BOOLEAN}, ("url",), short="url")
ROOT = Record(
    {
        "word": WORD,
        "kind": choice("auto", "open"),
        "jobs": Maybe(NUMBER, "auto"),
        "limit": Maybe(NUMBER),
        "list": ListOf(WORD),
        "lone": ListOf(WORD, lone=True, least=1),
        "things": ListOf(THING),
        "free": MapOf(WORD, NUMBER),
        "deep": Record({"number": NUMBER, "yes": BOOLEAN}, ("yes",)),
    }
)


def check(value: object, schema: Schema = ROOT) -> tuple[Any, list[str]]:
    problems = Problems()
    found = schema.check(value, "", problems.within("a.yaml"))
    lines: list[str] = []
    if problems:
        with pytest.raises(ConfigError) as raised:
            problems.fail("correct it")
        lines = raised.value.message.splitlines()
        assert raised.value.code == 10 and raised.value.hint == "correct it"
    assert len(lines) == len(problems)
    return found, lines


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, {}),
        ({"word": "a", "kind": "open"}, {"word": "a", "kind": "open"}),
        ({"jobs": "auto"}, {"jobs": None}),
        ({"jobs": 4, "limit": None}, {"jobs": 4, "limit": None}),
        ({"list": []}, {"list": ()}),
        ({"lone": "a"}, {"lone": ("a",)}),
        ({"things": ["a"]}, {"things": ({"url": "a"},)}),
        (
            {"things": [{"url": "a", "trusted": True}]},
            {"things": ({"url": "a", "trusted": True},)},
        ),
        ({"free": None}, {"free": {}}),
        ({"deep": {"yes": False}}, {"deep": {"yes": False}}),
    ],
)
def test_good_values(value: object, found: object) -> None:
    assert check(value) == (found, [])


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([], "must be a mapping (KEY: VALUE), not a list"),
        ({"word": 5}, "word: must be a word, not 5"),
        ({"word": None}, "word: must be a word, not nothing"),
        ({"word": "a\n"}, r"word: must be a word, not 'a\n'"),
        ({"word": "A" * 99}, f"word: must be a word, not '{'A' * 56}..."),
        ({"kind": "opne"}, "kind: must be one of auto, open (did you mean open?), not 'opne'"),
        ({"kind": True}, "kind: must be one of auto, open, not True"),
        ({"jobs": True}, "jobs: must be a digit from 1 to 9, not True"),
        ({"jobs": 10}, "jobs: must be a digit from 1 to 9, not 10"),
        ({"jobs": None}, "jobs: must be a digit from 1 to 9, not nothing"),
        ({"list": "a"}, "list: must be a list, such as [a, b], not 'a'"),
        ({"list": None}, "list: must be a list, such as [a, b], not nothing"),
        ({"list": ["a", "b", "a"]}, "list[2]: 'a' is there twice"),
        ({"list": ["a", []]}, "list[1]: must be a word, not a list"),
        ({"lone": []}, "lone: must not be empty"),
        ({"things": [{"trusted": True}]}, "things[0].url: is missing"),
        ({"things": [[]]}, "things[0]: must be a mapping (KEY: VALUE), not a list"),
        ({"free": {"B": 1}}, "free.B: must be a word, not 'B'"),
        ({"free": {"b": {}}}, "free.b: must be a digit from 1 to 9, not a mapping"),
        ({"deep": {"yes": 1}}, "deep.yes: must be true or false, not 1"),
        ({"deep": "x"}, "deep: must be a mapping (KEY: VALUE), not 'x'"),
        ({"wrod": "a"}, "wrod: unknown key, did you mean word?"),
        (
            {"deep": {"yes": True, "numbr": 1}},
            "deep.numbr: unknown key, did you mean deep.number?",
        ),
        ({"number": 1}, "number: unknown key, did you mean deep.number?"),
        ({"zzz": 1}, "zzz: unknown key"),
    ],
)
def test_one_problem(value: object, line: str) -> None:
    assert f"a.yaml: {line}" in check(value)[1]


def test_all_problems_at_once() -> None:
    value = {
        "word": 1,
        "deep": {"number": 0, "x": 1},
        "things": ["A", {"u": 1}],
        "free": {"B": "c"},
    }
    _, lines = check(value)
    assert [line.split(": ")[1] for line in lines] == [
        "word",
        "deep.number",
        "deep.x",
        "deep.yes",
        "things[0].url",
        "things[1].u",
        "things[1].url",
        "free.B",
        "free.B",
    ]


def test_a_record_makes_its_value_only_if_it_is_right() -> None:
    made = Record({"word": WORD}, make=lambda word: word.upper())
    assert check({"word": "a"}, made) == ("A", [])
    assert check({"word": 1}, made)[0] is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ROOT.fields, "url", "trusted", "x"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_value_is_taken_or_its_problems_are_lines(value: object) -> None:
    _, lines = check(value)
    assert all(line.startswith("a.yaml: ") for line in lines)
