"""The state of one instance: as ``modulus status`` and the file in /run hold it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from modulus.core.findings import Finding
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.errors import ModulusError

PHASES = (
    "plan", "fetch", "unpack", "provision", "build", "commit", "install", "load", "nodes",
    "verify", "ready", "watch", "wait", "failed",
)  # fmt: skip

_SETTLED = ("ready", "failed", None)
"""The phases that stay true when the process that wrote them has ended."""
_RESTING = ("watch", "wait")
"""The phases whose end leaves nothing undone."""


@dataclass(frozen=True)
class KernelReady:
    """Whether an installed kernel would find its driver; ``default_boot``: the next boot."""

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
        """The failure of ``error``."""
        return cls(error.code, error.message, error.hint)


@dataclass(frozen=True)
class State:
    """What an instance is doing and has come to.

    ``phase`` is one of PHASES, None where nothing runs and nothing is known to be wrong.
    ``progress`` is from 0 to 1, ``eta_s`` in seconds, both None where unknown. ``active``: its
    generation is the driver now; ``selected``: this instance is the one wanted. ``since`` is
    when the phase began, in RFC 3339, None where unknown. ``hold_s`` is how many seconds a
    reboot can be held for a build, None where that is not wanted. ``proof`` is what was proved
    of the build, if anything was.
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
    """``state`` after the process that wrote it has ended without a word.

    Work under way has failed; a process that only waited or watched just ended.
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
    """The state in JSON ``value``; ValueError where it is not one."""
    of = Fields(value, "the state")
    text, number = forms.optional(forms.line), forms.optional(forms.seconds)
    progress = of("progress", number)
    if progress is not None and progress > 1:
        raise ValueError("progress of the state must be from 0 to 1")
    return State(
        instance=str(of("instance", forms.instance)),
        phase=of("phase", forms.optional(forms.one_of(*PHASES))),
        progress=progress,
        eta_s=of("eta_s", number),
        active=of("active", forms.flag),
        selected=of("selected", forms.flag),
        key=of("key", text),
        generation=of("generation", text),
        kernels=of("kernels", forms.list_of(parse_kernel_ready)),
        findings=of("findings", forms.list_of(_finding)),
        error=of("error", forms.optional(_failure)),
        since=of("since", text),
        hold_s=of("hold_s", number),
        proof=of("proof", text),
    )


def parse_kernel_ready(value: object) -> KernelReady:
    """The same for a KernelReady."""
    of = Fields(value, "a kernel")
    return KernelReady(
        of("release", forms.release), of("ready", forms.flag), of("default_boot", forms.flag)
    )


def _finding(value: object) -> Finding:
    of = Fields(value, "a finding")
    return Finding(*(of(field.name, forms.content) for field in fields(Finding)))


def _failure(value: object) -> Failure:
    of = Fields(value, "the error")
    return Failure(
        of("code", forms.number(-255, 255)),
        of("message", forms.content),
        of("hint", forms.content),
    )
