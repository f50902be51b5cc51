"""One function per command: options in, the result printed, an exit code out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modulus.cli import output
from modulus.cli.parser import EXAMPLE
from modulus.core.instance import parse_instance
from modulus.core.keys import SHORT
from modulus.errors import IntegrityError, ModulusError, UsageError
from modulus.host.report import Reporter

if TYPE_CHECKING:
    from modulus.pipeline.build import Built
    from modulus.pipeline.node import Node
    from modulus.pipeline.site import Site

Command = Callable[[argparse.Namespace, Reporter], int]


def _plan(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.pipeline.plan import plan

    node = _node(options, reporter)
    release = node.kernel.release if options.kernel is None else options.kernel
    result = plan(node, release, install=True)
    value = {
        "instance": str(node.instance),
        "kernel": result.facts.kernel,
        "flavour": result.facts.flavour,
        "flavour_reason": result.facts.flavour_reason,
        "key": result.key,
        "hit": result.hit,
        "miss": [asdict(difference) for difference in result.miss],
        "steps": [asdict(step) for step in result.steps],
        "settings": output.settings_value(node.settings),
    }
    output.show(value, options.json, output.plan_text(value, options.verbose))
    return 0


def _build(options: argparse.Namespace, reporter: Reporter) -> int:
    """Tries every release; the exit code is the first failure's."""
    from modulus.pipeline.build import build

    node = _node(options, reporter)
    if options.all_kernels:
        releases = node.installed_kernels()
    else:
        releases = tuple(dict.fromkeys(options.kernel or (node.kernel.release,)))
    results: list[dict[str, Any]] = []
    failures: list[ModulusError] = []
    for release in releases:
        try:
            built = build(node, release, shell=options.shell)
        except ModulusError as error:
            failures.append(error)
            results.append(_failed(node, release, error))
            output.show_error(error, reporter)
        else:
            results.append(_done(node, built))
            output.show({}, False, "" if options.json else built.text(node.instance))
    if options.json:
        result: dict[str, Any] = {"results": results}
        if failures:
            result["error"] = output.error_value(failures[0])
        output.show(result, True, "")
    return failures[0].code if failures else 0


def _done(node: Node, built: Built) -> dict[str, Any]:
    return {
        "instance": str(node.instance),
        "kernel": built.release,
        "key": built.entry.key,
        "hit": built.hit,
        "seconds": round(built.seconds, 1),
        "path": str(built.entry.path),
        "error": None,
    }


def _failed(node: Node, release: str, error: ModulusError) -> dict[str, Any]:
    return {
        "instance": str(node.instance),
        "kernel": release,
        "key": None,
        "hit": False,
        "seconds": None,
        "path": None,
        "error": output.error_value(error),
    }


def _up(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.pipeline.activate import up

    node = _node(options, reporter)
    done = up(node)
    value = {
        **_done(node, done.built),
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


def _cache(options: argparse.Namespace, reporter: Reporter) -> int:
    return _CACHE[options.action](options, reporter)


def _cache_list(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.pipeline.upkeep import listing

    entries = listing(_site(options, reporter))
    output.show({"entries": entries}, options.json, output.entries_text(entries))
    return 0


def _cache_verify(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.pipeline.upkeep import verify

    entries = verify(_site(options, reporter))
    bad = [entry for entry in entries if entry["state"] == "bad"]
    result: dict[str, Any] = {"entries": entries}
    error = None
    if bad:
        keys = ", ".join(entry["key"][:SHORT] for entry in bad)
        error = IntegrityError(
            f"bad builds, which are not used: {keys}",
            "our own are in the cache's bad/ now, where modulus cache gc removes them; "
            "one in another store has to be mended there",
        )
        result["error"] = output.error_value(error)
    output.show(result, options.json, output.entries_text(entries))
    if error:
        output.show_error(error, reporter)
        return error.code
    return 0


def _cache_extract(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.pipeline.upkeep import extract

    if not re.fullmatch(r"[0-9a-f]{4,64}", options.key):
        raise UsageError(
            f"{options.key!r} is not the beginning of a key", "give at least four of its digits"
        )
    written = [
        str(path) for path in extract(_site(options, reporter), options.key, Path(options.dir))
    ]
    output.show({"files": written}, options.json, "\n".join(written))
    return 0


def _cache_gc(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.core.units import parse_duration, parse_size
    from modulus.pipeline.upkeep import Bounds, collect

    bounds = Bounds(
        max_age=output.argument("--max-age", options.max_age, parse_duration),
        max_size=output.argument("--max-size", options.max_size, parse_size),
        keep_installed=options.keep_installed,
        everything=options.all,
    )
    gone = collect(_site(options, reporter), bounds)
    removed = [{"path": str(item.path), "size": item.size} for item in gone]
    total = sum(item.size for item in gone)
    lines = [f"removed: {item.path} ({output.size_text(item.size)})" for item in gone]
    lines.append(f"{len(gone)} removed, {output.size_text(total)} freed")
    output.show({"removed": removed, "freed": total}, options.json, "\n".join(lines))
    return 0


COMMANDS: dict[str, Command] = {"plan": _plan, "build": _build, "up": _up, "cache": _cache}

_CACHE: dict[str, Command] = {
    "list": _cache_list,
    "verify": _cache_verify,
    "extract": _cache_extract,
    "gc": _cache_gc,
}


def _site(options: argparse.Namespace, reporter: Reporter) -> Site:
    from modulus.pipeline.site import Site

    for name in ("root", "config"):
        if getattr(options, name) == "":
            raise UsageError(f"--{name} is empty", "leave it out, or give it a path")
    root = Path(options.root).resolve()
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", "give --root the root of a system")
    return Site(
        root=root,
        config=Path(options.config) if options.config else None,
        assignments=(*options.early_settings, *options.settings),
        lock_timeout=options.lock_timeout,
        reporter=reporter,
    )


def _node(options: argparse.Namespace, reporter: Reporter) -> Node:
    instance = parse_instance(options.instance, EXAMPLE)
    from modulus.pipeline.node import Node

    node = Node(_site(options, reporter), instance)
    # What is wrong with either is said before anything is done, and once.
    _ = node.settings, node.profile
    return node
