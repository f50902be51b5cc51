"""A state in one line, as ``systemctl status`` shows it, and the state left at the end."""

from __future__ import annotations

from dataclasses import replace

from modulus.core.findings import Finding
from modulus.core.status.state import Failure, State


def status_text(state: State) -> str:
    """What has come of an instance: ready, waiting for a GPU, failed and why."""
    if state.error is not None:
        cause = "; ".join(state.error.message.splitlines())
        return f"failed: {cause} (next: {state.error.hint})"
    if state.phase == "wait":
        return "waiting for a GPU"
    told = [finding for finding in state.findings if finding.severity != "info"]
    if not state.active:
        if not state.selected:
            return "ready: built, no GPU to load it for"
        return "; ".join(["ready: built, not loaded", *(each.message for each in told)])
    text = f"ready: {state.generation or state.instance}"
    if told:
        count = f"{len(told)} findings" if len(told) > 1 else "1 finding"
        text += f", {count}: {told[0].message}"
    return text


def standby_text(selected: str | None, failed: str | None) -> str:
    """What an instance does while another is ``selected``; ``failed``: why it was not built."""
    text = f"standby: {selected or 'no instance'} is selected"
    return f"{text}; not built for this kernel: {failed}" if failed else text


def pending(state: State, refused: Failure) -> State:
    """``state`` where the driver in use stays for now; ``refused`` says who uses it."""
    finding = Finding(
        "switch-pending",
        "loaded",
        "warning",
        f"{state.instance} is selected and not loaded yet",
        refused.message,
        refused.hint,
    )
    return replace(
        state, active=False, selected=True, progress=None, eta_s=None, error=None,
        findings=(finding,),
    )  # fmt: skip


def pending_text(refused: Failure) -> str:
    """A pending switch in one line."""
    return f"pending: {'; '.join(refused.message.splitlines())}"


def stopped(state: State) -> State | None:
    """``state`` once no process works on it any more; None where nothing is left to say."""
    ended = replace(state, progress=None, eta_s=None)
    if state.error is not None:
        return replace(ended, phase="failed")
    return replace(ended, phase="ready") if state.active else None
