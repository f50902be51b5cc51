"""``modulus down``: unloads the driver and takes away what was made for it."""

from __future__ import annotations

import argparse

from modulus.cli import output
from modulus.cli.parser import EXAMPLE
from modulus.cli.system import make_site
from modulus.core.instance import parse_instance
from modulus.errors import ConfigError
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.down import down
from modulus.pipeline.node import Node


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Prints what was removed; a driver that was not up is none the worse for it."""
    node = Node(make_site(options), parse_instance(options.instance, EXAMPLE))
    try:
        _ = node.settings
    except ConfigError as error:
        # No setting is needed, and a mistake in one must not keep a driver loaded.
        for line in error.message.splitlines():
            reporter.warn(f"{line}; it goes down all the same")
    removed = down(node, reporter)
    lines = [f"removed: {what}" for what in removed]
    lines.append(f"down: {node.instance}" if removed else f"down: {node.instance} was not up")
    output.show({"removed": list(removed)}, options.json, "\n".join(lines))
    return 0
