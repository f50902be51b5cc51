"""``modulus cache``: looks at the store and cleans it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from modulus.cli import output
from modulus.cli.system import Command, make_store_site
from modulus.core.config.units import parse_duration, parse_size
from modulus.core.store.keys import SHORT
from modulus.errors import IntegrityError, ModulusError, UnprovedError, UsageError
from modulus.host.build.resources import make_idle
from modulus.host.report.reporter import Reporter
from modulus.pipeline.build.proof import prove, unproved
from modulus.pipeline.cache import extract, listing, verify, verify_provided
from modulus.pipeline.cleaning import Bounds, collect


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Does what is asked for with the store."""
    return _ACTIONS[options.action](options, reporter)


def _list(options: argparse.Namespace, reporter: Reporter) -> int:
    entries = listing(make_store_site(options, reporter))
    output.show({"entries": entries}, options.json, output.entries_text(entries))
    return 0


def _verify(options: argparse.Namespace, reporter: Reporter) -> int:
    site = make_store_site(options, reporter)
    entries, provided = verify(site, reporter), verify_provided(site, reporter)
    bad = [entry["key"] for entry in entries if entry["state"] == "bad"]
    bad += [entry["id"] for entry in provided if entry["state"] == "bad"]
    result: dict[str, Any] = {"entries": entries, "provided": provided}
    error = None
    if bad:
        keys = ", ".join(key[:SHORT] for key in bad)
        error = IntegrityError(
            f"bad builds, headers or toolchains, which are not used: {keys}",
            "our own are in the cache's bad/ now, where modulus cache gc removes them; "
            "one in another store has to be mended there",
        )
        result["error"] = output.error_value(error)
    text = "\n".join((output.entries_text(entries), output.provided_text(provided)))
    output.show(result, options.json, text.strip())
    if error:
        output.show_error(error, reporter)
        return error.code
    return 0


def _extract(options: argparse.Namespace, reporter: Reporter) -> int:
    _check_key(options.key)
    written = [
        str(path)
        for path in extract(
            make_store_site(options, reporter), reporter, options.key, Path(options.dir)
        )
    ]
    output.show({"files": written}, options.json, "\n".join(written))
    return 0


def _reproduce(options: argparse.Namespace, reporter: Reporter) -> int:
    site = make_store_site(options, reporter)
    if options.idle:
        make_idle(site.root)
    if options.key is not None:
        _check_key(options.key)
        entries = [site.store.lookup(options.key)]
    else:
        entries = list(unproved(site) if options.unproved else site.store.entries())
    proofs: list[dict[str, Any]] = []
    errors: list[ModulusError] = []
    for entry in entries:
        value: dict[str, Any] = {"key": entry.key, "result": None, "error": None}
        try:
            value["result"] = prove(site, reporter, entry, again=not options.unproved).result
        except ModulusError as error:
            errors.append(error)
            value["error"] = output.error_value(error)
            if options.idle and isinstance(error, UnprovedError):
                reporter.phase("verify", error.message)  # There is time.
            else:
                output.show_error(error, reporter)
        proofs.append(value)
    # A wrong build weighs more than one that could not be proved.
    worst = min(errors, key=lambda error: error.code, default=None)
    lines = [f"{one['key'][:SHORT]}  {one['result']}" for one in proofs if one["result"]]
    result: dict[str, Any] = {"proofs": proofs}
    if worst:
        result["error"] = output.error_value(worst)
    output.show(result, options.json, "\n".join(lines))
    return worst.code if worst else 0


def _check_key(prefix: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{4,64}", prefix):
        raise UsageError(
            f"{prefix!r} is not the beginning of a key", "give at least four of its digits"
        )


def _gc(options: argparse.Namespace, reporter: Reporter) -> int:
    bounds = Bounds(
        max_age=output.argument("--max-age", options.max_age, parse_duration),
        max_size=output.argument("--max-size", options.max_size, parse_size),
        keep_installed=options.keep_installed,
        everything=options.all,
    )
    gone = collect(make_store_site(options, reporter), reporter, bounds)
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
    "reproduce": _reproduce,
    "gc": _gc,
}
