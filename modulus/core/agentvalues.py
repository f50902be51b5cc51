"""The state of an instance as its agent tells it on the bus, which knows no null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modulus.core.findings import Finding
from modulus.core.state import Failure, KernelReady, State, parse_state

UNKNOWN = -1.0
"""A number that is not known."""


def agent_values(
    state: State, active: str, selected: str, kernels: Iterable[KernelReady]
) -> dict[str, Any]:
    """The values of the properties of org.modulus1.Agent, as its interface types them.

    ``active`` and ``selected`` are instances of this driver, "" for none.
    """
    error = state.error or Failure(0, "", "")
    return {
        "Instance": state.instance,
        "Phase": state.phase or "",
        "Progress": UNKNOWN if state.progress is None else state.progress,
        "SecondsLeft": UNKNOWN if state.eta_s is None else state.eta_s,
        "HoldSeconds": UNKNOWN if state.hold_s is None else state.hold_s,
        "Since": state.since or "",
        "Active": active,
        "Selected": selected,
        "Generation": state.generation or "",
        "Key": state.key or "",
        "Kernels": [(kernel.release, kernel.ready) for kernel in kernels],
        "Findings": [finding.value() for finding in state.findings],
        "Error": error.message,
        "ErrorCode": error.code,
        "Hint": error.hint,
    }


def state_of(values: Mapping[str, Any]) -> State:
    """The state that these values tell of; ValueError where they tell of none.

    Which kernel a boot takes is not among them, so its ``kernels`` are empty.
    """
    try:
        error = {
            "code": values["ErrorCode"],
            "message": values["Error"],
            "hint": values["Hint"],
        }
        found = {
            "instance": values["Instance"],
            "phase": values["Phase"] or None,
            "progress": _number(values["Progress"]),
            "eta_s": _number(values["SecondsLeft"]),
            "active": values["Active"] == values["Instance"],
            "selected": values["Selected"] == values["Instance"],
            "key": values["Key"] or None,
            "generation": values["Generation"] or None,
            "kernels": [],
            "findings": [Finding(**finding).value() for finding in values["Findings"]],
            "error": error if error["code"] else None,
            "since": values["Since"] or None,
            "hold_s": _number(values["HoldSeconds"]),
        }
    except (KeyError, TypeError) as problem:
        raise ValueError(f"an agent tells too little: {problem}") from None
    return parse_state(found)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and value < 0 else value
