"""What is told of a driver that was started, or put in place."""

from __future__ import annotations

from typing import Any

from modulus.cli import output
from modulus.core.status.state import KernelReady
from modulus.host.kernel.next_boot import default_kernel
from modulus.host.status.reporter import StatusReporter
from modulus.pipeline.activate.up import BUILT, READY, WAITING, Activated
from modulus.pipeline.node import Node


def finish(live: StatusReporter, node: Node, done: Activated) -> None:
    """Reports the result in /run and to systemd."""
    live.finish(
        phase=WAITING if done.phase == WAITING else READY,
        active=done.generation is not None,
        selected=done.generation is not None,
        key=done.key,
        generation=done.generation.name if done.generation else None,
        kernels=_kernels(node, done),
        findings=done.findings,
    )


def _kernels(node: Node, done: Activated) -> tuple[KernelReady, ...]:
    """The running kernel only: the others are not known without a look at each."""
    if done.generation is None:
        return ()
    running = node.kernel.release
    default = default_kernel(node.site.root, node.site.host.kernels)
    return (KernelReady(running, True, running == default),)


def activated_value(node: Node, done: Activated) -> dict[str, Any]:
    """``done`` as the contract's JSON."""
    made: dict[str, Any] = {"instance": str(node.instance)}
    if done.built:
        made = output.built_value(node.instance, done.built)
    value = {**made, "phase": done.phase, "warm": done.built is None, "changed": done.changed}
    if done.generation:
        of = done.generation.contents.identity
        value |= {
            "kernel": of.kernel.release,
            "key": of.key,
            "flavour": of.flavour,
            "generation": done.generation.name,
        }
    return {**value, "findings": [finding.value() for finding in done.findings], "error": None}


def activated_text(node: Node, done: Activated) -> str:
    """``done`` as people read it."""
    lines = [done.built.text(node.instance)] if done.built else []
    if done.generation:
        verb = "installed" if done.changed else "unchanged"
        lines.append(f"{verb}: {node.paths.inside.link} is {done.generation.name}")
    if done.phase == WAITING:
        lines.append(f"wait: {node.instance} is built; there is no GPU for it yet")
    elif done.phase == BUILT:
        lines.append(f"ready: {node.instance} is built, and not loaded without a GPU")
    return "\n".join(lines)
