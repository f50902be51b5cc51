"""``modulus render``: prints files for other programs."""

from __future__ import annotations

import argparse

from modulus.cli import output
from modulus.cli.system import make_node
from modulus.host.report.reporter import Reporter
from modulus.pipeline.render import user_data


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Prints the user-data that makes a node with the instance."""
    node = make_node(options, reporter)
    text = user_data(node, options.package, options.package_sha256)
    output.show({"text": text}, options.json, text)
    return 0
