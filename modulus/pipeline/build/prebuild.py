"""The builds for every installed kernel: in which order, and which need none."""

from __future__ import annotations

from modulus.core.kernel.upcoming import by_urgency
from modulus.host.build.proofs import why_condemned
from modulus.host.generation.install import Generation, active_generation
from modulus.host.kernel.next_boot import default_kernel
from modulus.host.kernel.probe import running_kernel
from modulus.pipeline.node import Node


def urgent_first(node: Node) -> tuple[str, ...]:
    """The installed kernels, the one that boots next first; ToolchainError for none."""
    installed = node.installed_kernels()
    return by_urgency(installed, default_kernel(node.site.root, installed))


def in_place(node: Node, release: str) -> Generation | None:
    """The active generation, if it is this instance's and made for ``release``, the running
    kernel, to the bit: the next boot of that kernel takes it, whatever the store has. A
    condemned one does not count: the next boot takes a new build."""
    running = running_kernel(node.site.root)
    if running is None or running.release != release:
        return None
    active = active_generation(node.paths)
    if active is None:
        return None
    of = active.contents.identity
    if why_condemned(node.site.root, active):
        return None
    return active if of.instance == node.instance and of.kernel == running else None
