"""Removes what nobody needs any more, once a driver is at work."""

from __future__ import annotations

from modulus.errors import ModulusError
from modulus.host.files import atomic
from modulus.host.report.reporter import Reporter
from modulus.host.retention import collect_generations
from modulus.host.status.files import sweep_states
from modulus.pipeline.node import Node


def collect_old(node: Node, reporter: Reporter) -> None:
    """Removes the driver's generations that nobody needs, and what killed runs left.

    The caller has the driver's lock. Trouble is a warning: the driver works.
    """
    try:
        sweep_states(node.site.root)
        atomic.sweep_all(node.paths.records)
        # A file of an older Modulus that anyone can read, with the settings' passwords.
        (node.paths.records / "recall.json").unlink(missing_ok=True)
        collect_generations(node.paths, reporter)
    except (ModulusError, OSError) as error:
        reporter.warn(f"what nobody needs stays: {error}")
