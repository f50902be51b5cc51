"""What the package has of the command line is what the parser has: scripts/commandline."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.cli.parser import make_parser

DEB = Path(__file__).parents[3] / "scripts/deb"
BASH, ZSH = DEB / "completions/modulus.bash", DEB / "completions/_modulus"
STALE = "run .venv/bin/python scripts/commandline"

COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_shtab_modulus modulus "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""

# Nothing of this machine's: only what is made here.
LISTS = """
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/cache || exit
mkdir -p /run/modulus /var/cache/modulus/builds/6.1.0-9-amd64/0a1b
touch /run/modulus/nvidia-1.2.json /run/modulus/other-3.json
exec bash -c "$@"
"""


def commands(
    parser: argparse.ArgumentParser, *before: str
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """All commands, those that take a further one too."""
    yield before, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from commands(command, *before, name)


def options(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings]


def subcommands(parser: argparse.ArgumentParser) -> list[str]:
    return [
        name
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name in action.choices
    ]


ALL = dict(commands(make_parser()))


def offered(*words: str, before: tuple[str, ...] = ()) -> set[str]:
    """What bash offers for the last of ``words``."""
    argv = [*before, *(() if before else ("bash", "-c")), COMPLETE, "bash", BASH, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_bash_offers_every_command_and_option(words: tuple[str, ...]) -> None:
    parser = ALL[words]
    wanted = {name for name in options(parser) if name.startswith("--")}
    assert offered("modulus", *words, "--") == wanted, STALE
    if subcommands(parser):
        assert offered("modulus", *words, "") == set(subcommands(parser)), STALE


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts something else on /run")
def test_bash_offers_instances_and_keys() -> None:
    before = ("unshare", "--mount", "sh", "-c", LISTS, "sh")
    for words in (("up",), ("status",), ("build", "--kernel", "x"), ("render", "user-data")):
        found = offered("modulus", *words, "nv", before=before)
        assert found == {"nvidia-1.2"}
    for action in ("extract", "reproduce"):
        assert offered("modulus", "cache", action, "0", before=before) == {"0a1b"}


def test_zsh_takes_its_file_and_it_has_every_command_and_option() -> None:
    subprocess.run(["zsh", "-n", ZSH], check=True)
    text = ZSH.read_text()
    assert text.startswith("#compdef modulus\n")
    for words, parser in ALL.items():
        function = "_".join(("_shtab_modulus", *words)).replace("-", "_")
        _, _, rest = text.partition(f"\n{function}_options=(")
        part = rest.partition("\n)\n")[0]
        for name in options(parser):
            assert name in part, f"{' '.join(words)} {name}: {STALE}"


def test_the_manual_has_every_command_and_option() -> None:
    text = (DEB / "modulus.8").read_text().replace("\\-", "-")
    common = set(options(ALL[()]))
    for words, parser in ALL.items():
        if subcommands(parser):
            continue
        _, found, rest = text.partition(f"\n.B {' '.join(words)}")
        assert found, f"{' '.join(words)}: {STALE}"
        part = rest.partition("\n.SH ")[0]
        for name in set(options(parser)) - common:
            assert name in part, f"{' '.join(words)} {name}: {STALE}"
    for name in common - {"-h", "--help"}:
        assert name in text.partition(".SH OPTIONS")[2].partition(".SH ")[0], STALE


def test_the_manual_reads_well() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", DEB / "modulus.8"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
