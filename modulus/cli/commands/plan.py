"""``modulus plan``: says what would be done, and why."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from modulus.cli import output
from modulus.cli.system import make_node
from modulus.host.report.reporter import Reporter
from modulus.pipeline.build.plan import plan, start_steps
from modulus.pipeline.build.source import where_recorded
from modulus.pipeline.build.twin import explained


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Prints the plan for one kernel."""
    node = make_node(options, reporter)
    node.site.tell_store_problems(reporter)
    release = node.kernel.release if options.kernel is None else options.kernel
    result = explained(node, plan(node, release, start_steps(node)))
    package = where_recorded(node)
    value = {
        "instance": str(node.instance),
        "kernel": result.facts.kernel,
        "flavour": result.facts.flavour,
        "flavour_reason": result.facts.flavour_reason,
        "dropped": [asdict(gpu) for gpu in result.facts.dropped],
        "package": package and {"sha256": package[0].sha256, "from": package[1]},
        "key": result.facts.key,
        "hit": result.hit,
        "miss": [asdict(difference) for difference in result.miss],
        "steps": [asdict(step) for step in result.steps],
        "settings": output.settings_value(node.settings),
    }
    output.show(value, options.json, output.plan_text(value, options.verbose))
    return 0
