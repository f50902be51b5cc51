"""``modulus up``: makes the driver work on the running kernel."""

from __future__ import annotations

import argparse

from modulus.cli import output
from modulus.cli.parser import EXAMPLE
from modulus.cli.system import make_node, make_site
from modulus.cli.up_text import activated_text, activated_value, finish
from modulus.core.instance import parse_instance
from modulus.host.report.reporter import Reporter
from modulus.host.status.reporter import StatusReporter
from modulus.pipeline.activate.up import Activated, up
from modulus.pipeline.node import Node


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Starts the driver, or only puts it in place; exits 0 once that is done."""
    node, done = (_install if options.no_load else _start)(options, reporter)
    output.show(activated_value(node, done), options.json, activated_text(node, done))
    return 0


def _node(options: argparse.Namespace, reporter: Reporter) -> Node:
    node = make_node(options, reporter)
    if options.retry:
        from modulus.host.build.failures import forget_all

        forget_all(node.site.cache, node.instance)
    return node


def _install(options: argparse.Namespace, reporter: Reporter) -> tuple[Node, Activated]:
    node = _node(options, reporter)
    return node, up(node, reporter, load=False)


def _start(options: argparse.Namespace, reporter: Reporter) -> tuple[Node, Activated]:
    """Reports in /run and to systemd too, from the first mistake in a setting on."""
    instance = str(parse_instance(options.instance, EXAMPLE))
    with StatusReporter(reporter, make_site(options).root, instance, selected=True) as live:
        node = _node(options, live)
        done = up(node, live)
        finish(live, node, done)
    return node, done
