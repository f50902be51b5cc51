"""``modulus up --watch``: a file of its own, since what stays resident has to be small."""

from __future__ import annotations

import argparse

from modulus.agent.resident import watch
from modulus.cli.parser import EXAMPLE
from modulus.cli.system import make_site
from modulus.core.instance import parse_instance
from modulus.host.report.reporter import Reporter


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Has the driver brought up, and stays."""
    instance = parse_instance(options.instance, EXAMPLE)
    return watch(make_site(options), instance, reporter, verbose=options.verbose)
