"""``modulus wait``: waits until drivers are ready, or cannot be."""

from __future__ import annotations

import argparse

from modulus.cli import output
from modulus.cli.system import make_site
from modulus.host.report.reporter import Reporter
from modulus.pipeline.inspect.wait import wait


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Waits for those that are being started."""
    waited = wait(make_site(options), reporter, options.timeout)
    output.show(waited.value(), options.json, "")
    return waited.code
