"""What a state says, and that nothing else is taken for one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.findings import LEVELS, SEVERITIES, Finding
from modulus.core.status.state import (
    PHASES,
    Failure,
    KernelReady,
    State,
    abandoned,
    parse_state,
)
from modulus.errors import BusyError

STATE = State(
    instance="driver-1.0",
    phase="build",
    progress=0.43,
    eta_s=52.4,
    selected=True,
    kernels=(KernelReady("6.1.0-9-amd64", False, True),),
    findings=(Finding("old", "loaded", "error", "it is old", "time", "wait"),),
    error=Failure(17, "in use", "stop it"),
    since="2024-01-02T03:04:05Z",
)

_LITTLE = st.text(max_size=5).filter(str.isprintable)
_RELEASES = st.from_regex("[0-9][0-9a-z.-]{,9}", fullmatch=True)
_SOME = st.none() | _LITTLE
_STATES = st.builds(
    State,
    instance=st.sampled_from(["a-1", "b_c-d-2.0"]),
    phase=st.none() | st.sampled_from(PHASES),
    progress=st.none() | st.floats(0, 1),
    eta_s=st.none() | st.floats(0, 1e6),
    active=st.booleans(),
    selected=st.booleans(),
    key=_SOME,
    generation=_SOME,
    kernels=st.lists(
        st.builds(KernelReady, _RELEASES, st.booleans(), st.booleans()), max_size=2
    ).map(tuple),
    findings=st.lists(
        st.builds(
            Finding,
            _LITTLE,
            st.sampled_from(LEVELS),
            st.sampled_from(SEVERITIES),
            _LITTLE,
            _LITTLE,
            _LITTLE,
        ),
        max_size=2,
    ).map(tuple),
    error=st.none() | st.builds(Failure, st.integers(0, 255), _LITTLE, _LITTLE),
    since=_SOME,
    hold_s=st.none() | st.floats(0, 1e6),
)


@given(_STATES)
def test_any_state_survives_json(state: State) -> None:
    assert parse_state(json.loads(json.dumps(state.value()))) == state


def test_its_json_is_the_contracts() -> None:
    assert STATE.value() == {
        "instance": "driver-1.0",
        "phase": "build",
        "progress": 0.43,
        "eta_s": 52.4,
        "active": False,
        "selected": True,
        "key": None,
        "generation": None,
        "kernels": [{"release": "6.1.0-9-amd64", "ready": False, "default_boot": True}],
        "findings": [
            {
                "id": "old",
                "level": "loaded",
                "severity": "error",
                "message": "it is old",
                "cause": "time",
                "fix": "wait",
            }
        ],
        "error": {"code": 17, "message": "in use", "hint": "stop it"},
        "since": "2024-01-02T03:04:05Z",
        "hold_s": None,
        "proof": None,
    }


def test_one_that_an_earlier_version_wrote_is_read() -> None:
    value = STATE.value()
    del value["hold_s"]
    assert parse_state(value) == STATE


def test_what_is_added_later_is_passed_over() -> None:
    assert parse_state({**STATE.value(), "colour": "blue"}) == STATE


@pytest.mark.parametrize(
    "change",
    [
        {"instance": None},
        {"phase": "sleep"},
        {"phase": 3},
        {"progress": "half"},
        {"progress": 1.5},
        {"progress": True},
        {"progress": math.nan},
        {"eta_s": json.loads("1e400")},
        {"eta_s": -math.inf},
        {"active": None},
        {"selected": 1},
        {"key": 7},
        {"kernels": None},
        {"kernels": ["6.1.0"]},
        {"kernels": [{"release": "6.1.0", "ready": "yes", "default_boot": False}]},
        {"findings": [{"id": "old"}]},
        {"error": "bad"},
        {"error": {"code": "1", "message": "", "hint": ""}},
        {"since": 12},
        {"hold_s": "long"},
    ],
    ids=str,
)
def test_what_is_no_state_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        parse_state({**STATE.value(), **change})


@pytest.mark.parametrize("value", [None, [], "ready", 3])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        parse_state(value)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State("a-1", None), ""),
        (State("a-1", "load"), "load"),
        (State("a-1", "build", 0.436), "build: 44 %"),
        (State("a-1", "build", 0.0, 52.4), "build: 0 %, 0:52 left"),
        (State("a-1", "build", 0.5, 605), "build: 50 %, 10:05 left"),
    ],
)
def test_what_it_does_is_said_in_words(state: State, text: str) -> None:
    assert state.doing == text


@pytest.mark.parametrize("phase", ["ready", "failed", None])
def test_what_was_done_stays_so_without_its_process(phase: str | None) -> None:
    state = replace(STATE, phase=phase)
    assert abandoned(state) == state


@pytest.mark.parametrize("phase", ["watch", "wait"])
def test_what_rested_only_stops(phase: str) -> None:
    left = abandoned(replace(STATE, phase=phase, error=None))
    assert (left.phase, left.progress, left.error) == (None, None, None)
    assert (left.findings, left.selected) == (STATE.findings, True)


@pytest.mark.parametrize("phase", sorted(set(PHASES) - {"ready", "failed", "watch", "wait"}))
def test_what_was_under_way_has_failed(phase: str) -> None:
    left = abandoned(replace(STATE, phase=phase))
    assert (left.phase, left.progress, left.eta_s) == ("failed", None, None)
    assert left.error is not None
    assert phase in left.error.message
    assert "journalctl -u modulus@driver-1.0" in left.error.hint


def test_a_failure_is_an_errors() -> None:
    assert Failure.of(BusyError("in use", "stop it")) == Failure(17, "in use", "stop it")
