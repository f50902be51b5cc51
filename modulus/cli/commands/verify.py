"""``modulus verify``: says what is wrong with drivers."""

from __future__ import annotations

import argparse
from typing import Any

from modulus.cli import output
from modulus.cli.system import make_node, make_store_site
from modulus.host.report.reporter import Reporter
from modulus.pipeline.activate.verify import Checked, check, check_all


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Checks all active drivers, or the one that is named; the first error's code counts."""
    if options.instance:
        node = make_node(options, reporter)
        node.site.tell_store_problems(reporter)
        checked: tuple[Checked, ...] = (check(node, deep=options.deep),)
    else:
        checked = check_all(make_store_site(options, reporter), deep=options.deep)
    found = [finding for one in checked for finding in one.findings]
    errors = [one.error for one in checked if one.error]
    value: dict[str, Any] = {
        "ok": not errors,
        "findings": [finding.value() for finding in found],
    }
    if errors:
        value["error"] = output.error_value(errors[0])
    names = ", ".join(one.name for one in checked)
    output.show(value, options.json, output.findings_text(found, names))
    for error in errors:
        output.show_error(error, reporter)
    return errors[0].code if errors else 0
