"""The state of an instance in the values of the bus, which has no null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from modulus.core.findings import Finding
from modulus.core.status.state import Failure, KernelReady, State, parse_state

UNKNOWN = -1.0
"""A number that is not known."""

MOST_CHARACTERS, MOST_ENTRIES = 4096, 256
"""Bounds of one text and of one list: every listener on the bus gets them."""
_LARGEST = 2**31 - 1


def agent_values(
    state: State, active: str, selected: str, kernels: Iterable[KernelReady]
) -> dict[str, Any]:
    """The values of the properties of org.modulus1.Agent, as its interface types them.

    Texts are UTF-8 without NUL, as the bus requires; texts and lists have bounded lengths.
    ``active`` and ``selected`` are instances of this driver, "" for none.
    """
    error = state.error or Failure(0, "", "")
    return {
        "Instance": _text(state.instance),
        "Phase": _text(state.phase),
        "Progress": UNKNOWN if state.progress is None else state.progress,
        "SecondsLeft": UNKNOWN if state.eta_s is None else state.eta_s,
        "HoldSeconds": UNKNOWN if state.hold_s is None else state.hold_s,
        "Since": _text(state.since),
        "Active": _text(active),
        "Selected": _text(selected),
        "Generation": _text(state.generation),
        "Key": _text(state.key),
        "Kernels": [
            (_text(kernel.release), kernel.ready) for kernel in islice(kernels, MOST_ENTRIES)
        ],
        "Findings": [
            {key: _text(text) for key, text in finding.value().items()}
            for finding in state.findings[:MOST_ENTRIES]
        ],
        "Error": _text(error.message),
        "ErrorCode": max(-_LARGEST, min(error.code, _LARGEST)),
        "Hint": _text(error.hint),
    }


def state_of(values: Mapping[str, Any]) -> State:
    """The state in these values; ValueError where they hold none.

    The values do not say which kernel a boot takes, so ``kernels`` is empty.
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


def _text(text: str | None) -> str:
    """``text`` with ``?`` for NUL and for what is not UTF-8, as in the name of a folder."""
    kept = (text or "")[:MOST_CHARACTERS].replace("\0", "?")
    return kept.encode("utf-8", "replace").decode("utf-8")


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and value < 0 else value
