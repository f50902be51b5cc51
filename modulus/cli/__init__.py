"""The command line: words in, an exit code out."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

from modulus.cli.parser import make_parser
from modulus.errors import ModulusError, UsageError
from modulus.host.report.reporter import Reporter, make_reporter

_WAYS = ("watch", "repair")
"""Options of ``up`` that have a file of their own among the commands."""


def run(argv: Sequence[str]) -> int:
    """Runs one command and returns the program's exit code."""
    reporter = make_reporter()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    # Others read the store: nodes on NFS, and people who look at a log.
    os.umask(0o022)
    try:
        options = make_parser(*argv[:1]).parse_args(argv)
        return _command(options)(options, reporter)
    except ModulusError as error:
        return _failed(error, reporter, argv)
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, _Ended) else int(signal.SIGINT)
        reporter.error(f"modulus: error: ended by {signal.Signals(number).name}")
        reporter.error("modulus: hint: run the same command again; it takes up what is done")
        return 128 + number
    except PermissionError as error:
        return _failed(_not_permitted(error), reporter, argv)
    except Exception as error:
        return _failed(_unexpected(error), reporter, argv)


def _command(options: argparse.Namespace) -> Callable[[argparse.Namespace, Reporter], int]:
    """What does the command; only that is imported, since imports are most of a quick one."""
    own = [way for way in _WAYS if getattr(options, way, False)]
    module = importlib.import_module(f"modulus.cli.commands.{[*own, options.command][0]}")
    command: Callable[[argparse.Namespace, Reporter], int] = module.run
    return command


def _failed(error: ModulusError, reporter: Reporter, argv: Sequence[str]) -> int:
    from modulus.cli import output

    if not {"-v", "--verbose"}.isdisjoint(argv):
        reporter.error(traceback.format_exc())
    if "--json" in argv:
        output.show({"error": output.error_value(error)}, True, "")
    output.show_error(error, reporter)
    return error.code


class _Ended(KeyboardInterrupt):
    """A signal that asks this process to end, raised so that every clean-up runs."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _end(number: int, _frame: FrameType | None) -> None:
    raise _Ended(number)


def _not_permitted(error: PermissionError) -> ModulusError:
    return UsageError(
        f"{error.filename or 'this'} needs more rights than you have", "run it as root"
    )


def _unexpected(error: Exception) -> ModulusError:
    return ModulusError(
        f"{type(error).__name__}: {error}".splitlines()[0],
        "this is a bug; run it again with -v and report what it prints",
    )
