"""The command line's grammar. Nothing heavy is imported here: ``-h`` must be quick."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from collections.abc import Callable
from typing import Any, NoReturn

from modulus import __version__
from modulus.errors import UsageError

EXAMPLE = "nvidia-535.309.01"
"""A good instance name, shown wherever a bad one is refused."""

_OVERVIEW = """\
usage: modulus [OPTION]... COMMAND ...

Keeps a node's kernel drivers matching its kernel. INSTANCE is PROFILE-VERSION,
such as nvidia-535.309.01.

commands:
  up INSTANCE         make the driver work on the running kernel
  down INSTANCE       unload it, and take away what was made
  rollback [NAME]     go back to what worked before
  status [INSTANCE]   what is          verify [INSTANCE]   whether it is right
  wait                until the drivers are ready, or cannot be
  build INSTANCE      build the modules into the store only
  plan INSTANCE       what would be done, and why
  fits [INSTANCE]     which drivers build for which kernels here
  cache ACTION        the store: list, verify, extract, reproduce, gc
  render user-data INSTANCE     what cloud-init needs to make a node

options, for every command:
  --root DIR          the host's root      --config FILE      instead of /etc's
  --set KEY=VALUE     one setting          --lock-timeout S   give up on a lock
  --json              the result as JSON   -v, --verbose      say more
  --version           print the version

modulus COMMAND -h tells about one command, docs/reference.md about all of it.
"""


class _Formatter(argparse.HelpFormatter):
    """As wide as the terminal; argparse itself would import a lot to find that out."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    found = 0
    with contextlib.suppress(ValueError):
        found = int(os.environ.get("COLUMNS", ""))
    if found <= 0:
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(1).columns
    return max(found or 80, 40)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} -h")


class _Overview(_Parser):
    def format_help(self) -> str:
        return _OVERVIEW


def make_parser(first: str = "") -> argparse.ArgumentParser:
    """The grammar: of the command ``first`` only, or of all where ``first`` is none."""
    common = _common(argparse.SUPPRESS)
    parser = _Overview(prog="modulus", parents=[_common(None)], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"modulus {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    for name in [first] if first in _COMMANDS else _COMMANDS:
        help, add = _COMMANDS[name]
        command = commands.add_parser(
            name, help=help, description=help, parents=[common], allow_abbrev=False
        )
        add(command, common)
    return parser


def _add_instance(parser: argparse.ArgumentParser, _common: _Parser) -> None:
    parser.add_argument("instance", metavar="INSTANCE")


def _add_any_instance(parser: argparse.ArgumentParser, _common: _Parser) -> None:
    parser.add_argument("instance", metavar="INSTANCE", nargs="?")


def _add_verify(verify: argparse.ArgumentParser, common: _Parser) -> None:
    _add_any_instance(verify, common)
    verify.add_argument("--deep", action="store_true", help="hash every file of the driver")


def _add_up(up: argparse.ArgumentParser, common: _Parser) -> None:
    _add_instance(up, common)
    how = up.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="stay and see that it stays so")
    how.add_argument("--no-load", action="store_true", help="do not load the modules")
    how.add_argument("--repair", action="store_true", help="only what is around the modules")
    _add_retry(up)


def _add_rollback(rollback: argparse.ArgumentParser, _common: _Parser) -> None:
    rollback.add_argument(
        "name", metavar="NAME", nargs="?", help="the driver, if there are two"
    )


def _add_wait(wait: argparse.ArgumentParser, _common: _Parser) -> None:
    wait.add_argument(
        "--timeout", type=_seconds, metavar="S", help="instead of the setting boot_hold"
    )


def _add_build(build: argparse.ArgumentParser, common: _Parser) -> None:
    _add_instance(build, common)
    which = build.add_mutually_exclusive_group()
    which.add_argument(
        "--kernel",
        action="append",
        metavar="RELEASE",
        help="instead of the running one; may be repeated",
    )
    which.add_argument("--all-kernels", action="store_true", help="every installed kernel")
    build.add_argument(
        "--shell", action="store_true", help="keep a failed build's container and open it"
    )
    build.add_argument(
        "--prove",
        action="store_true",
        help="build it once more, without shortcuts, and compare",
    )
    _add_retry(build)


def _add_retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--retry", action="store_true", help="build also what the compiler has refused before"
    )


def _add_plan(plan: argparse.ArgumentParser, common: _Parser) -> None:
    _add_instance(plan, common)
    plan.add_argument("--kernel", metavar="RELEASE", help="instead of the running one")


def _add_fits(fits: argparse.ArgumentParser, common: _Parser) -> None:
    _add_any_instance(fits, common)
    fits.add_argument("--kernel", metavar="RELEASE", help="that kernel alone")


def _add_render(render: argparse.ArgumentParser, common: _Parser) -> None:
    what = render.add_subparsers(
        dest="what", required=True, metavar="WHAT", parser_class=_Parser
    )
    help = "What cloud-init needs to make a node."
    data = what.add_parser(
        "user-data", help=help, description=help, parents=[common], allow_abbrev=False
    )
    data.add_argument("instance", metavar="INSTANCE")
    data.add_argument("--package", metavar="URL", help="where nodes get Modulus's .deb from")
    data.add_argument("--package-sha256", metavar="HEX", help="its sha256")


def _add_cache(cache: argparse.ArgumentParser, common: _Parser) -> None:
    actions = cache.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=_Parser
    )

    def action(name: str, help: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name, help=help, description=help, parents=[common], allow_abbrev=False
        )

    action("list", "Lists the builds in the store.")
    action(
        "verify", "Checks every hash, of what builds are made with too; sets bad ones aside."
    )
    extract = action("extract", "Writes a build's modules out, hash-checked.")
    extract.add_argument("key", metavar="KEY", help="a key, or how it begins")
    extract.add_argument("dir", metavar="DIR")
    reproduce = action(
        "reproduce", "Builds what is in the store once more, without shortcuts, and compares."
    )
    which = reproduce.add_mutually_exclusive_group(required=True)
    which.add_argument("key", metavar="KEY", nargs="?", help="a key, or how it begins")
    which.add_argument("--all", action="store_true", help="every build")
    which.add_argument(
        "--unproved", action="store_true", help="those that this node built by a shortcut"
    )
    reproduce.add_argument(
        "--idle", action="store_true", help="in nobody's way, and not on a battery"
    )
    gc = action("gc", "Removes what is left over, and what the options say.")
    gc.add_argument("--max-age", metavar="D", help="builds not used for that long, such as 30d")
    gc.add_argument("--max-size", metavar="S", help="the longest unused above that, such as 2G")
    gc.add_argument(
        "--keep-installed", action="store_true", help="but no build for an installed kernel"
    )
    gc.add_argument(
        "--all", action="store_true", help="all but headers, toolchains and what is in use"
    )


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser, _Parser], None]]] = {
    "up": ("Makes the driver work on the running kernel.", _add_up),
    "down": ("Unloads the driver and takes away what Modulus made.", _add_instance),
    "rollback": ("Goes back to the generation that worked before.", _add_rollback),
    "status": ("Shows what is.", _add_any_instance),
    "verify": (
        "Says what is wrong with the active driver, and what to do.",
        _add_verify,
    ),
    "wait": ("Waits until the drivers being started are ready, or cannot be.", _add_wait),
    "build": ("Builds the driver's modules into the store.", _add_build),
    "plan": ("Prints what would be done and why; changes nothing.", _add_plan),
    "fits": ("Says which drivers build for which kernels, as far as is known here.", _add_fits),
    "render": ("Prints files for other programs.", _add_render),
    "cache": ("Looks at the store and cleans it.", _add_cache),
}
"""What each command does, and the function that adds its arguments to its parser."""


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 <= value < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, from 0")


def _common(default: object) -> _Parser:
    """The options every command takes, before or after its name.

    An option that adds up keeps its values from before the name apart: a sub-parser's values
    replace those of its parent.
    """
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("options for every command")

    def option(*names: str, fallback: object, **more: Any) -> None:
        value = default if default is not None else fallback
        group.add_argument(*names, default=value, **more)

    option("--root", fallback="/", metavar="DIR", help="the host's root")
    option("--config", fallback=None, metavar="FILE", help="settings, instead of /etc's")
    group.add_argument(
        "--set",
        default=[],
        action="append",
        metavar="KEY=VALUE",
        dest="early_settings" if default is None else "settings",
        help="one setting",
    )
    option("--json", fallback=False, action="store_true", help="the result as JSON")
    option(
        "--lock-timeout",
        fallback=None,
        type=_seconds,
        metavar="S",
        help="give up on a lock after S seconds",
    )
    option("-v", "--verbose", fallback=False, action="store_true", help="say more")
    return parser
