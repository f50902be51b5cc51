"""A state on its way over the bus."""

from __future__ import annotations

from typing import Any

import pytest

from modulus.core.agentvalues import agent_values, state_of
from modulus.core.findings import Finding
from modulus.core.state import Failure, KernelReady, State

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
