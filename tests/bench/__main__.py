"""The command: measures the rows that are asked for and prints the table."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import builds, start, unpack
from tests.bench.machine import describe
from tests.bench.measure import FailedError, Meter, remove
from tests.bench.ratios import Result, Row, chosen
from tests.bench.report import Report, as_json, markdown, replaced, text
from tests.bench.site import Site
from tests.support.packages import UnavailableError, cache_folder, locked

ROWS = (*builds.ROWS, *unpack.ROWS, *start.ROWS)
_PAIRS = 5


def main(words: Sequence[str]) -> int:
    """The exit status: 0 whatever the ratios are, 1 for what could not be measured."""
    options = _parse(words)
    if os.geteuid():
        print("bench: error: it needs root\nbench: hint: run it with sudo", file=sys.stderr)
        return 1
    folder = cache_folder() / "bench"
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    began = time.monotonic()
    try:
        # One at a time, or each would measure the other.
        with locked("bench"), _work_folder(folder) as work:
            log.unlink(missing_ok=True)
            site = Site(work, Meter(log, options.lock), len(os.sched_getaffinity(0)))
            facts = describe(site.jobs)
            results = _measure(site, options.rows, options.pairs)
            if any(row in builds.ROWS for row in options.rows):
                facts["kernels"] = ", ".join(site.kernels)
                facts["driver"] = site.instance
    except (FailedError, UnavailableError, subprocess.CalledProcessError) as error:
        print(f"bench: error: {error}\nbench: hint: look at {log}", file=sys.stderr)
        return 1
    facts["command"] = shlex.join(["scripts/bench", *words])
    facts["took"] = f"{(time.monotonic() - began) / 60:.0f} min"
    report = Report(facts, tuple(results))
    print(text(report), end="")
    if options.json:
        options.json.write_text(json.dumps(as_json(report), indent=2) + "\n")
    if options.markdown:
        document = options.markdown.read_text()
        options.markdown.write_text(replaced(document, markdown(report)))
    return 0


@contextlib.contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """A folder to work in; what a run left that was killed goes too."""
    for old in parent.glob("run-*"):
        remove(old)
    with tempfile.TemporaryDirectory(prefix="run-", dir=parent) as work:
        yield Path(work)


def _measure(site: Site, rows: Sequence[Row], pairs: int) -> list[Result]:
    found: list[Result] = []
    # What is quick first: who waits sees something.
    found += start.results(site, tuple(rows), pairs)
    found += unpack.results(site, tuple(rows), pairs)
    if asked := [row for row in rows if row in builds.ROWS]:
        found += builds.Builds(site).results(asked, pairs)
    return sorted(found, key=lambda result: ROWS.index(result.row))


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", add_help=False, allow_abbrev=False, usage="scripts/bench -h"
    )
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--pairs", type=int, default=_PAIRS)
    parser.add_argument("--quick", dest="pairs", action="store_const", const=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--lock", type=Path)
    options = parser.parse_args(words)
    if options.pairs < 1:
        parser.error("--pairs is at least 1")
    if options.markdown:
        try:
            replaced(options.markdown.read_text(), "")
        except (OSError, ValueError) as error:
            parser.error(f"--markdown {options.markdown}: {error}")
    try:
        options.rows = chosen(ROWS, options.rows)
    except ValueError as error:
        parser.error(f"no row {error}; there are {', '.join(row.name for row in ROWS)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
