"""Describes the failure of a child."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import replace

from modulus.core.status.state import Failure, State
from modulus.errors import LockedError, ModulusError


def with_error(state: State, code: int) -> tuple[State, Failure]:
    """``state`` with the failure in it, and the failure; at least its exit code is known."""
    error = state.error
    if error is None or (error.code != code and code >= 0):
        error = _untold(state.instance, code)
    return replace(state, error=error), error


def how(code: int) -> str:
    """How a child ended: its exit code, negative for a signal."""
    if code >= 0:
        return f"status {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    # Most of those for real time have no name.
    return f"signal {-code}"


def _untold(instance: str, code: int) -> Failure:
    if code == LockedError.code:
        text = f"another process is at work on {instance}"
        return Failure(code, text, "wait for it to end")
    text, hint = f"up ended with {how(code)}", f"see journalctl -u modulus@{instance}"
    return Failure(max(code, ModulusError.code), text, hint)
