"""The state of one instance: an element of ``modulus status``, and of its file in /run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modulus.core.dataclass import asdict, dataclass, field_names, replace
from modulus.core.findings import Finding
from modulus.errors import ModulusError

PHASES = (
    "plan", "fetch", "unpack", "provision", "build", "commit", "install", "load", "nodes",
    "verify", "ready", "watch", "wait", "failed",
)  # fmt: skip

_SETTLED = ("ready", "failed", None)
"""The phases that stay true when the process that wrote them has ended."""
_RESTING = ("watch", "wait")
"""Those in which nothing is left undone if it ends."""


@dataclass(frozen=True)
class KernelReady:
    """Whether an installed kernel would find its driver; ``default_boot`` is booted next."""

    release: str
    ready: bool
    default_boot: bool


@dataclass(frozen=True)
class Failure:
    """Why an instance failed: the exit code, the cause, what to do next."""

    code: int
    message: str
    hint: str

    @classmethod
    def of(cls, error: ModulusError) -> Failure:
        """The failure that ``error`` is."""
        return cls(error.code, error.message, error.hint)


@dataclass(frozen=True)
class State:
    """What an instance is doing and has come to.

    ``phase`` is one of PHASES, None where nothing runs and nothing is known to be wrong.
    ``progress`` is from 0 to 1, ``eta_s`` in seconds, both None where unknown. ``active``: its
    generation is the driver now; ``selected``: it is the one that is wanted. ``since`` is when
    the phase began, in RFC 3339, None where unknown. ``hold_s`` is how many seconds a reboot
    can be held for a build, None where that is not wanted. ``proof`` is what was proved of
    the build, if anything was.
    """

    instance: str
    phase: str | None
    progress: float | None = None
    eta_s: float | None = None
    active: bool = False
    selected: bool = False
    key: str | None = None
    generation: str | None = None
    kernels: tuple[KernelReady, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: Failure | None = None
    since: str | None = None
    hold_s: float | None = None
    proof: str | None = None

    @property
    def doing(self) -> str:
        """The phase and how far it is, such as ``build: 43 %, 0:52 left``; "" for none."""
        text = self.phase or ""
        if self.progress is not None:
            text += f": {100 * self.progress:.0f} %"
        if self.eta_s is not None:
            minutes, seconds = divmod(round(self.eta_s), 60)
            text += f", {minutes}:{seconds:02d} left"
        return text

    def value(self) -> dict[str, Any]:
        """As JSON values, in the contract's names."""
        return asdict(self) | {
            "kernels": [asdict(kernel) for kernel in self.kernels],
            "findings": [finding.value() for finding in self.findings],
        }


def abandoned(state: State) -> State:
    """``state`` when the process that wrote it is gone and did not say why.

    What was under way has failed; what only waited or watched is no longer running.
    """
    if state.phase in _SETTLED:
        return state
    if state.phase in _RESTING:
        return replace(state, phase=None, progress=None, eta_s=None)
    return replace(
        state,
        phase="failed",
        progress=None,
        eta_s=None,
        error=Failure(
            ModulusError.code,
            f"what was in phase {state.phase} ended without a word",
            f"see journalctl -u modulus@{state.instance}, then start it again: it takes up "
            "what is done",
        ),
    )


def parse_state(value: object) -> State:
    """The state that JSON values tell of; ValueError for what is none."""
    given = _mapping(value, "the state")
    phase = _text(given, "phase", optional=True)
    if phase is not None and phase not in PHASES:
        raise ValueError(f"{phase!r} is not a phase")
    progress = _number(given, "progress")
    if progress is not None and not 0 <= progress <= 1:
        raise ValueError("progress must be from 0 to 1")
    return State(
        instance=_text(given, "instance") or "",
        phase=phase,
        progress=progress,
        eta_s=_number(given, "eta_s"),
        active=_boolean(given, "active"),
        selected=_boolean(given, "selected"),
        key=_text(given, "key", optional=True),
        generation=_text(given, "generation", optional=True),
        kernels=tuple(_kernel(item) for item in _list(given, "kernels")),
        findings=tuple(_finding(item) for item in _list(given, "findings")),
        error=None if given.get("error") is None else _failure(given["error"]),
        since=_text(given, "since", optional=True),
        hold_s=_number(given, "hold_s"),
        proof=_text(given, "proof", optional=True),
    )


def _kernel(value: object) -> KernelReady:
    given = _mapping(value, "a kernel")
    return KernelReady(
        _text(given, "release") or "",
        _boolean(given, "ready"),
        _boolean(given, "default_boot"),
    )


def _finding(value: object) -> Finding:
    given = _mapping(value, "a finding")
    return Finding(*(_text(given, name) or "" for name in field_names(Finding)))


def _failure(value: object) -> Failure:
    given = _mapping(value, "the error")
    code = given.get("code")
    if not isinstance(code, int) or isinstance(code, bool):
        raise ValueError("an error's code must be a number")
    return Failure(code, _text(given, "message") or "", _text(given, "hint") or "")


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be an object")
    return value


def _list(given: Mapping[str, Any], name: str) -> list[Any]:
    value = given.get(name)
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list")
    return value


def _text(given: Mapping[str, Any], name: str, *, optional: bool = False) -> str | None:
    value = given.get(name)
    if not isinstance(value, str) and not (optional and value is None):
        raise ValueError(f"{name} must be text")
    return value


def _number(given: Mapping[str, Any], name: str) -> float | None:
    value = given.get(name)
    if isinstance(value, bool) or not (value is None or isinstance(value, (int, float))):
        raise ValueError(f"{name} must be a number")
    # JSON has no infinity, but 1e400 becomes one.
    if value is not None and not -math.inf < value < math.inf:
        raise ValueError(f"{name} must be finite")
    return value


def _boolean(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false")
    return value
