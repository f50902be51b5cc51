"""``modulus rollback``: goes back to the generation that worked before."""

from __future__ import annotations

import argparse

from modulus.cli import output
from modulus.cli.system import make_site
from modulus.cli.up_text import activated_text, activated_value, finish
from modulus.host.report.reporter import Reporter
from modulus.host.status.reporter import StatusReporter
from modulus.pipeline.activate.rollback import choose, rollback


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Starts the one that ``choose`` finds, as ``up`` starts a new one."""
    site = make_site(options)
    node, generation = choose(site, reporter, options.name)
    instance = str(node.instance)
    with StatusReporter(reporter, site.root, instance, selected=True) as live:
        done = rollback(node, live, generation)
        finish(live, node, done)
    output.show(activated_value(node, done), options.json, activated_text(node, done))
    return 0
