"""Makes of every command's options the system, and a driver's instance on it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path

from modulus.cli.parser import EXAMPLE
from modulus.cli.root import find_root
from modulus.core.instance import parse_instance
from modulus.errors import ConfigError
from modulus.host.report.reporter import Reporter
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site

Command = Callable[[argparse.Namespace, Reporter], int]
"""Options in, the result printed, an exit code out."""


def make_site(options: argparse.Namespace) -> Site:
    """The system that ``--root`` names."""
    return Site(
        root=find_root(options),
        config=Path(options.config) if options.config else None,
        assignments=(*options.early_settings, *options.settings),
        lock_timeout=options.lock_timeout,
    )


def make_store_site(options: argparse.Namespace, reporter: Reporter) -> Site:
    """The same for a command that looks into stores: those that are passed over are told."""
    site = make_site(options)
    # Whoever needs the settings says what is wrong with them.
    with contextlib.suppress(ConfigError):
        site.tell_store_problems(reporter)
    return site


def make_node(options: argparse.Namespace, reporter: Reporter) -> Node:
    """The instance that is named, its settings and profile checked."""
    instance = parse_instance(options.instance, EXAMPLE)
    node = Node(make_site(options), instance)
    # What is wrong with either is said before anything is done, and once.
    settings, _ = node.settings, node.profile
    for text in settings.warnings:
        reporter.warn(text)
    return node
