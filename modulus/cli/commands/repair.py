"""``modulus up --repair``: a file of its own, since it has to start fast."""

from __future__ import annotations

import argparse

from modulus.cli import output
from modulus.cli.parser import EXAMPLE
from modulus.cli.root import find_root
from modulus.core.instance import parse_instance
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.repair import repair


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Puts right what is around a driver that is loaded."""
    instance = parse_instance(options.instance, EXAMPLE)
    done = repair(find_root(options), instance, reporter, options.lock_timeout)
    value = {
        "instance": str(instance),
        "generation": done.generation,
        "wrong": list(done.wrong),
        "findings": [finding.value() for finding in done.findings],
        "error": None,
    }
    lines = [f"repaired: {what}" for what in done.wrong]
    output.show(value, options.json, "\n".join(lines) or f"unchanged: {instance} is right")
    return 0
