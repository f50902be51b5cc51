"""The command line: words in, an exit code out."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType

from modulus.errors import ModulusError, UsageError
from modulus.host.report import Reporter, make_reporter


def run(argv: Sequence[str]) -> int:
    """Runs one command and returns the program's exit code."""
    reporter = make_reporter()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from modulus.cli.parser import make_parser

        options = make_parser().parse_args(argv)
        from modulus.cli.commands import COMMANDS

        return COMMANDS[options.command](options, reporter)
    except ModulusError as error:
        return _failed(error, reporter, argv)
    except BrokenPipeError:
        # Whoever read our output went away, as head(1) does; what was asked for is done.
        return 0
    except KeyboardInterrupt:
        reporter.error("modulus: error: interrupted")
        return 128 + signal.SIGINT
    except PermissionError as error:
        return _failed(_not_permitted(error), reporter, argv)
    except Exception as error:
        return _failed(_unexpected(error), reporter, argv)


def _failed(error: ModulusError, reporter: Reporter, argv: Sequence[str]) -> int:
    from modulus.cli import output

    if not {"-v", "--verbose"}.isdisjoint(argv):
        import traceback

        traceback.print_exc()
    if "--json" in argv:
        output.show({"error": output.error_value(error)}, True, "")
    output.show_error(error, reporter)
    return error.code


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Lets every clean-up run, as for a key press, and exits as a shell would report it."""
    raise SystemExit(128 + signal.SIGTERM)


def _not_permitted(error: PermissionError) -> ModulusError:
    return UsageError(
        f"{error.filename or 'this'} needs more rights than you have", "run it as root"
    )


def _unexpected(error: Exception) -> ModulusError:
    return ModulusError(
        f"{type(error).__name__}: {error}".splitlines()[0],
        "this is a bug; run it again with -v and report what it prints",
    )
