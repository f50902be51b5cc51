from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from modulus.core.kernel.upcoming import (
    BACKOFF,
    Kernel,
    Tried,
    by_urgency,
    changes,
    parse_tried,
)

OLD = Kernel("old", frozenset({"k1"}))
NEW = Kernel("new", frozenset({"k2"}))
DONE = Tried({"6.1": OLD}, at=100.0)
FAILED = Tried({"6.1": OLD}, code=14, failures=1, at=100.0)


@pytest.mark.parametrize(
    ("tried", "kernels", "missing"),
    [
        (Tried(), {}, ()),
        (Tried(), {"6.1": OLD}, ("6.1",)),
        (DONE, {"6.1": OLD}, ()),
        # Another kernel was removed, or came.
        (DONE, {}, ()),
        (DONE, {"6.1": OLD, "6.12": NEW}, ("6.12",)),
        (DONE, {"6.1": Kernel("new headers", OLD.stored)}, ("6.1",)),
        # Another instance's build came, or ours was thrown away.
        (DONE, {"6.1": Kernel("old", frozenset({"k1", "k9"}))}, ()),
        (DONE, {"6.1": Kernel("old")}, ("6.1",)),
        (FAILED, {"6.1": OLD}, ("6.1",)),
    ],
)
def test_what_is_done_is_not_done_again(
    tried: Tried, kernels: Mapping[str, Kernel], missing: tuple[str, ...]
) -> None:
    assert tried.missing(kernels) == missing


@pytest.mark.parametrize(
    ("tried", "built", "overtaken"),
    [
        (FAILED, {"6.1"}, True),
        (FAILED, {"6.1", "6.12"}, True),
        (FAILED, {"6.12"}, False),
        (FAILED, set(), False),
        (DONE, {"6.1"}, False),
        (Tried({"6.1": OLD, "6.12": NEW}, code=13), {"6.1"}, False),
    ],
)
def test_a_failure_is_overtaken_once_all_of_it_is_built(
    tried: Tried, built: set[str], overtaken: bool
) -> None:
    assert tried.is_overtaken(built) == overtaken


@pytest.mark.parametrize(
    ("kernels", "now", "wait"),
    [
        ({"6.1": OLD}, 110.0, 50.0),
        ({"6.1": OLD}, 160.0, 0.0),
        # A clock that was set back, and one set forward.
        ({"6.1": OLD}, 0.0, 60.0),
        ({"6.1": OLD}, 9e9, 0.0),
        ({"6.1": Kernel("other headers")}, 110.0, 0.0),
        ({"6.1": OLD, "6.12": NEW}, 110.0, 0.0),
        # What the store has is no input.
        ({"6.1": Kernel("old")}, 110.0, 50.0),
    ],
)
def test_a_failure_is_waited_out_unless_inputs_change(
    kernels: Mapping[str, Kernel], now: float, wait: float
) -> None:
    assert FAILED.wait(kernels, now) == wait
    assert DONE.wait(kernels, now) == 0


@pytest.mark.parametrize(
    ("code", "failures", "delay"),
    [
        (14, 1, 60.0), (14, 2, 120.0), (14, 50, BACKOFF.longest), (11, 50, 600.0),
        (20, 50, 60.0), (-9, 1, 60.0),
        # Nothing will change by itself: said again, rarely.
        (15, 1, BACKOFF.longest),
    ],
)  # fmt: skip
def test_how_long(code: int, failures: int, delay: float) -> None:
    assert Tried({"6.1": OLD}, code, failures, 0.0).delay == delay


def test_failures_in_a_row_are_counted_for_the_same_inputs() -> None:
    again = FAILED.then({"6.1": OLD}, 14, 200.0)
    assert (again.failures, again.at) == (2, 200.0)
    assert again.then({"6.1": NEW}, 14, 300.0).failures == 1
    assert again.then({"6.1": OLD}, 0, 300.0) == Tried({"6.1": OLD}, 0, 0, 300.0)


@pytest.mark.parametrize("tried", [Tried(), DONE, FAILED])
def test_it_outlives_its_process(tried: Tried) -> None:
    assert parse_tried(json.loads(json.dumps(tried.value()))) == tried


@pytest.mark.parametrize(
    "value",
    [
        None, [], "x", {}, {"kernels": {}}, {**DONE.value(), "code": "0"},
        {**DONE.value(), "at": None}, {**DONE.value(), "kernels": []},
        {**DONE.value(), "kernels": {"6.1": 1}, "at": 0},
        {**DONE.value(), "failures": 10**30}, {**DONE.value(), "at": float("inf")},
        {**DONE.value(), "kernels": {"../6.1": DONE.value()["kernels"]["6.1"]}},
    ],
)  # fmt: skip
def test_anything_else_is_no_record(value: object) -> None:
    with pytest.raises(ValueError):
        parse_tried(value)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ({}, {}, ""),
        ({"6.1": "a"}, {"6.1": "a"}, ""),
        ({}, {"6.1": "a"}, "kernel 6.1 was installed"),
        ({"6.1": "a"}, {}, "kernel 6.1 was removed"),
        ({"6.1": "a"}, {"6.1": "b"}, "kernel 6.1 was changed, or its headers"),
        ({"6.1": "a"}, {"6.2": "b"}, "kernel 6.2 was installed, kernel 6.1 was removed"),
    ],
)
def test_what_happened(old: Mapping[str, str], new: Mapping[str, str], text: str) -> None:
    assert changes(old, new) == text


@pytest.mark.parametrize(
    ("default", "order"),
    [("b", ("b", "c", "a")), ("c", ("c", "b", "a")), (None, ("c", "b", "a"))],
)
def test_what_is_booted_next_is_built_first(
    default: str | None, order: tuple[str, ...]
) -> None:
    assert by_urgency(("a", "b", "c"), default) == order
