"""``modulus cache``: looks at the store and cleans it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from modulus.cli import output
from modulus.cli.system import Command, make_site
from modulus.core.keys import SHORT
from modulus.errors import IntegrityError, UsageError
from modulus.host.report import Reporter


def manage(options: argparse.Namespace, reporter: Reporter) -> int:
    """Does what is asked for with the store."""
    return _ACTIONS[options.action](options, reporter)


def _list(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.pipeline.upkeep import listing

    entries = listing(make_site(options, reporter))
    output.show({"entries": entries}, options.json, output.entries_text(entries))
    return 0


def _verify(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.pipeline.upkeep import verify

    entries = verify(make_site(options, reporter))
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


def _extract(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.pipeline.upkeep import extract

    if not re.fullmatch(r"[0-9a-f]{4,64}", options.key):
        raise UsageError(
            f"{options.key!r} is not the beginning of a key", "give at least four of its digits"
        )
    written = [
        str(path)
        for path in extract(make_site(options, reporter), options.key, Path(options.dir))
    ]
    output.show({"files": written}, options.json, "\n".join(written))
    return 0


def _gc(options: argparse.Namespace, reporter: Reporter) -> int:
    from modulus.core.units import parse_duration, parse_size
    from modulus.pipeline.upkeep import Bounds, collect

    bounds = Bounds(
        max_age=output.argument("--max-age", options.max_age, parse_duration),
        max_size=output.argument("--max-size", options.max_size, parse_size),
        keep_installed=options.keep_installed,
        everything=options.all,
    )
    gone = collect(make_site(options, reporter), bounds)
    removed = [{"path": str(item.path), "size": item.size} for item in gone]
    total = sum(item.size for item in gone)
    lines = [f"removed: {item.path} ({output.size_text(item.size)})" for item in gone]
    lines.append(f"{len(gone)} removed, {output.size_text(total)} freed")
    output.show({"removed": removed, "freed": total}, options.json, "\n".join(lines))
    return 0


_ACTIONS: dict[str, Command] = {
    "list": _list,
    "verify": _verify,
    "extract": _extract,
    "gc": _gc,
}
