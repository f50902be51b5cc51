"""A state on its way over the bus."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.findings import Finding
from modulus.core.status.bus_values import MOST_CHARACTERS, MOST_ENTRIES, agent_values, state_of
from modulus.core.status.state import Failure, KernelReady, State

STATES = (
    State("driver-1.0", None),
    State("driver-1.0", "build", progress=0.0, eta_s=0.0, selected=True, since="then"),
    State(
        "driver-1.0",
        "failed",
        active=True,
        selected=True,
        key="key",
        generation="generation",
        findings=(Finding("id", "loaded", "error", "message", "cause", "fix"),),
        error=Failure(16, "refused", "sign it"),
        hold_s=900.0,
    ),
)


@pytest.mark.parametrize("state", STATES)
def test_a_state_comes_out_as_it_went_in(state: State) -> None:
    own = state.instance
    values = agent_values(state, own if state.active else "", own if state.selected else "", ())
    assert state_of(values) == state


def test_another_instance_may_be_active_and_selected() -> None:
    kernels = (KernelReady("6.1", True, True), KernelReady("6.2", False, False))
    values = agent_values(State("driver-1.0", "ready"), "driver-2.0", "driver-2.0", kernels)
    assert values["Active"] == values["Selected"] == "driver-2.0"
    assert values["Kernels"] == [("6.1", True), ("6.2", False)]
    assert (state_of(values).active, state_of(values).selected) == (False, False)


TEXTS = st.one_of(st.none(), st.text(), st.just("x" * 10**6), st.just("6.1-\udcff\0"))


@given(TEXTS, TEXTS, st.integers(), st.integers(0, 1000))
def test_the_bus_takes_whatever_a_state_has(
    text: str | None, other: str | None, code: int, count: int
) -> None:
    """Folders have names that are no UTF-8, and records may be anybody's work."""
    given_ = text or ""
    finding = Finding(given_, "loaded", "error", given_, given_, given_)
    state = State(
        given_, text, 0.5, key=other, generation=text, since=other,
        findings=(finding,) * count, error=Failure(code, given_, other or ""),
    )  # fmt: skip
    kernels = (KernelReady(given_, True, True),) * count
    values = agent_values(state, given_, other or "", kernels)
    lists = values.pop("Kernels"), values.pop("Findings")
    assert max(map(len, lists)) <= MOST_ENTRIES
    texts = [value for value in values.values() if isinstance(value, str)]
    texts += [release for release, _ in lists[0]]
    texts += [each for finding in lists[1] for each in finding.values()]
    assert "\0" not in "".join(texts)
    assert max(len(each.encode()) for each in texts) <= 4 * MOST_CHARACTERS
    assert -(2**31) < values["ErrorCode"] < 2**31


@pytest.mark.parametrize(
    "change",
    [
        {"Phase": "dancing"},
        {"Progress": 2.0},
        {"ErrorCode": "1"},
        {"Findings": [{"id": "alone"}]},
        {"Key": None, "Since": 3},
        None,
    ],
)
def test_what_is_no_state_is_refused(change: dict[str, Any] | None) -> None:
    values = agent_values(State("driver-1.0", "ready"), "", "", ())
    with pytest.raises(ValueError, match=r"."):
        state_of({} if change is None else values | change)
