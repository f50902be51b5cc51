"""``modulus up`` and its kin: what changes and shows the driver of this node."""

from __future__ import annotations

import argparse

from modulus.cli import output
from modulus.cli.building import done_value
from modulus.cli.system import make_node
from modulus.host.report import Reporter


def up(options: argparse.Namespace, reporter: Reporter) -> int:
    """Makes the driver work on the running kernel."""
    from modulus.pipeline import activate

    node = make_node(options, reporter)
    done = activate.up(node)
    value = {
        **done_value(node, done.built),
        "flavour": done.built.flavour,
        "generation": done.generation.name,
        "changed": done.changed,
    }
    verb = "installed" if done.changed else "unchanged"
    lines = (
        done.built.text(node.instance),
        f"{verb}: /opt/drivers/{node.instance.profile} is {done.generation.name}",
    )
    output.show(value, options.json, "\n".join(lines))
    return 0
