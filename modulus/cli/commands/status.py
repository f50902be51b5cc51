"""``modulus status``: shows the states of instances."""

from __future__ import annotations

import argparse

from modulus.cli import output
from modulus.cli.parser import EXAMPLE
from modulus.cli.status_text import status_text
from modulus.cli.system import make_store_site
from modulus.core.instance import parse_instance
from modulus.host.report.reporter import Reporter
from modulus.pipeline.inspect.status import status


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Shows the named instance, or all."""
    instance = parse_instance(options.instance, EXAMPLE) if options.instance else None
    states = status(make_store_site(options, reporter), instance)
    value = {"instances": [state.value() for state in states]}
    output.show(value, options.json, status_text(states))
    return 0
