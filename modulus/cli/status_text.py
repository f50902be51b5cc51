"""The states of instances as people read them, in the manner of ``systemctl status``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modulus.core.status.state import State
from modulus.core.store.keys import SHORT
from modulus.core.wording import span

_LABEL = 12


def status_text(states: Sequence[State]) -> str:
    """A block per instance, with an empty line between."""
    if not states:
        return "no instance is enabled, selected or active; modulus up INSTANCE starts one"
    return "\n\n".join("\n".join(_block(state)) for state in states)


def _block(state: State) -> Iterator[str]:
    yield state.instance
    since = f" since {state.since}" if state.phase and state.since else ""
    yield _line("Phase", f"{state.doing or 'not running'}{since}")
    yield _line("Selected", "yes" if state.selected else "no")
    yield _line("Active", "yes" if state.active else "no")
    if state.generation:
        yield _line("Generation", state.generation)
    if state.key:
        proof = f" (built again: {state.proof})" if state.proof else ""
        yield _line("Key", f"{state.key[:SHORT]}{proof}")
    width = max((len(kernel.release) for kernel in state.kernels), default=0)
    for index, kernel in enumerate(state.kernels):
        text = f"{kernel.release:{width}}  {'ready' if kernel.ready else 'not ready'}"
        text += ", booted next" if kernel.default_boot else ""
        yield _line("" if index else "Kernels", text)
    if state.hold_s is not None:
        yield _line("Reboot", f"held up to {span(state.hold_s)} while modules are built")
    for finding in state.findings:
        yield _line(finding.severity.capitalize(), finding.message)
        yield _line("Fix", finding.fix)
    if state.error:
        yield from _lines("Error", f"{state.error.message} (exit code {state.error.code})")
        yield from _lines("Hint", state.error.hint)


def _lines(label: str, text: str) -> Iterator[str]:
    """``text`` with its own lines below each other."""
    for index, line in enumerate(text.splitlines()):
        yield _line("" if index else label, line)


def _line(label: str, text: str) -> str:
    return f"{label:>{_LABEL}}{':' if label else ' '} {text}".rstrip()
