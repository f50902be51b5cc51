"""What holds a boot, by the states of units and instances."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modulus.core.status.boot_hold import (
    FAILED,
    OFF,
    READY,
    WAITING,
    Standing,
    UnitState,
    decisive,
    expect,
    stand,
    unit_name,
)
from modulus.core.status.state import Failure, State

UNIT = UnitState("loaded", "inactive", "dead", "success", 0, job=False, enabled=True)
BUSY = Failure(17, "in use", "stop it")
BUILDING = State("driver-1.0", "build", 0.43)
BROKEN = State("driver-1.0", "failed", error=BUSY)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"active": "active", "sub": "running"}, READY),
        ({"active": "reloading", "sub": "reload"}, READY),
        ({"active": "activating", "sub": "start"}, WAITING),
        ({"active": "activating", "sub": "auto-restart", "result": "exit-code"}, WAITING),
        ({"active": "failed", "sub": "failed-before-auto-restart"}, WAITING),
        ({"active": "deactivating", "sub": "stop-sigterm"}, WAITING),
        ({"active": "failed", "sub": "failed", "result": "exit-code"}, FAILED),
        ({"active": "failed", "sub": "failed", "result": "timeout", "job": True}, WAITING),
        ({"load": "bad-setting"}, FAILED),
        ({"job": True}, WAITING),
        # It will be started by the next boot, if at all.
        ({}, OFF),
        ({"enabled": False}, OFF),
        ({"load": "masked"}, OFF),
        ({"load": "not-found"}, OFF),
    ],
    ids=str,
)
def test_a_unit_says_where_its_instance_stands(change: dict[str, str], verdict: str) -> None:
    unit = replace(UNIT, **change)  # type: ignore[arg-type]
    assert stand("driver-1.0", unit, None).verdict == verdict


@pytest.mark.parametrize("state", [None, BUILDING, BROKEN])
def test_the_unit_counts_more_than_the_state(state: State | None) -> None:
    restarting = replace(UNIT, active="activating", sub="auto-restart")
    running = replace(UNIT, active="active", sub="running")
    assert stand("driver-1.0", restarting, state).verdict == WAITING
    assert stand("driver-1.0", running, state).verdict == READY


@pytest.mark.parametrize(
    ("result", "status", "state", "code", "message"),
    [
        ("exit-code", 17, BROKEN, 17, "in use"),
        ("exit-code", 15, None, 15, "its unit failed: exit-code"),
        ("exit-code", 15, BUILDING, 15, "its unit failed: exit-code"),
        ("oom-kill", 9, BROKEN, 1, "its unit failed: oom-kill"),
        ("timeout", 15, None, 1, "its unit failed: timeout"),
    ],
)
def test_a_failed_unit_says_why(
    result: str, status: int, state: State | None, code: int, message: str
) -> None:
    unit = replace(UNIT, active="failed", sub="failed", result=result, exit_status=status)
    error = stand("driver-1.0", unit, state).error
    assert error is not None
    assert (error.code, error.message) == (code, message)
    assert error.hint


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (None, WAITING),
        (State("driver-1.0", None), WAITING),
        (BUILDING, WAITING),
        (State("driver-1.0", "ready"), READY),
        (State("driver-1.0", "watch"), READY),
        # The agent has not yet said that it tries again, or is started anew.
        (replace(BROKEN, error=Failure(14, "it did not compile", "look")), WAITING),
        (State("driver-1.0", "failed"), WAITING),
        (replace(BROKEN, error=Failure(15, "too new", "take another")), FAILED),
    ],
)
def test_what_is_enabled_counts_as_being_started_until_its_state_says_otherwise(
    state: State | None, verdict: str
) -> None:
    standing = expect("driver-1.0", state)
    assert standing.verdict == verdict
    assert (standing.error is not None) == (verdict == FAILED)
    assert standing.text or verdict != WAITING


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (None, OFF),
        (State("driver-1.0", None), OFF),
        (BUILDING, WAITING),
        (State("driver-1.0", "verify"), WAITING),
        (State("driver-1.0", "ready"), READY),
        (State("driver-1.0", "watch"), READY),
        (State("driver-1.0", "wait", key="k"), READY),
        (State("driver-1.0", "wait", key="k", error=BUSY), WAITING),
        (State("driver-1.0", "wait"), WAITING),
        (BROKEN, FAILED),
        (State("driver-1.0", "failed"), FAILED),
    ],
)
def test_without_systemd_the_state_says_it(state: State | None, verdict: str) -> None:
    standing = stand("driver-1.0", None, state)
    assert standing.verdict == verdict
    assert (standing.error is not None) == (verdict == FAILED)


def test_what_it_does_is_told() -> None:
    starting = replace(UNIT, active="activating", sub="start")
    assert stand("driver-1.0", starting, BUILDING).text == "build: 43 %"
    assert "activating" in stand("driver-1.0", starting, None).text


@pytest.mark.parametrize(
    ("verdicts", "selected", "counts"),
    [
        ({}, "a", None),
        ({"a": OFF}, "a", None),
        ({"a": WAITING, "b": READY}, "a", "a"),
        ({"a": FAILED, "b": READY}, "a", "a"),
        ({"a": FAILED, "b": READY}, None, "b"),
        ({"a": FAILED, "b": WAITING}, None, "b"),
        ({"a": WAITING, "b": READY}, None, "b"),
        ({"a": FAILED, "b": OFF}, None, "a"),
        # The selected one was disabled or stopped: what is on counts.
        ({"a": OFF, "b": WAITING}, "a", "b"),
        ({"b": READY}, "a", "b"),
    ],
)
def test_of_several_instances_one_counts(
    verdicts: dict[str, str], selected: str | None, counts: str | None
) -> None:
    standing = decisive([Standing(*item) for item in verdicts.items()], selected)
    assert (standing and standing.instance) == counts


def test_a_unit_has_its_instances_name() -> None:
    assert unit_name("v4l2loopback-0.12.7") == "modulus@v4l2loopback-0.12.7.service"
