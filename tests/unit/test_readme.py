"""What README.md and the operator's page tell people to type exists."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.cli.parser import make_parser
from modulus.core.instance import parse_instance

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "docs/operations.md"]

STOPS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "<<"}
PREFIXES = {"sudo", "$", "time", "if", "exec"}


def commands(text: str) -> Iterator[list[str]]:
    """Every command in the fenced shell blocks of ``text``, as words."""
    fence = re.compile(r"^```(?:sh|shell|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    here_document = re.compile(r"(<<[\"']?(\w+)[\"']?[^\n]*\n).*?\n\2\n", re.DOTALL)
    for block in fence.findall(text):
        block = here_document.sub(r"\1", block.replace("\\\n", " "))
        # A value for each placeholder, substitution and variable.
        block = re.sub(r"\bVERSION\b", "535.1", re.sub(r"\$\(.*?\)|\$\{?\w+\}?", "x-1", block))
        for line in block.splitlines():
            # What a command prints may be shown below it.
            with contextlib.suppress(ValueError):
                yield from split_line(line)


def split_line(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    command: list[str] = []
    skipping = False
    for word in lexer:
        if word in STOPS:
            if command:
                yield command
            # A redirection's file is no command.
            command, skipping = [], word in {">", ">>", "<", "<<"}
        elif skipping:
            skipping = False
        elif command or (word not in PREFIXES and not re.match(r"\w+=", word)):
            command.append(word)
    if command:
        yield command


def modulus_commands(page: Path) -> list[list[str]]:
    return [words for words in commands(page.read_text()) if Path(words[0]).name == "modulus"]


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("sudo scripts/setup && cd x", [["scripts/setup"], ["cd", "x"]]),
        ("a build \\\n  x-1 >log # why", [["a", "build", "x-1"]]),
        ("a --kernel $(uname -r) x-VERSION", [["a", "--kernel", "x-1", "x-535.1"]]),
        ("tee f <<'END'\nmodulus no\nEND\nb", [["tee", "f"], ["b"]]),
        ("A=1 b | c\nit doesn't parse", [["b"], ["c"]]),
    ],
)
def test_commands_are_found(block: str, found: list[list[str]]) -> None:
    assert list(commands(f"```sh\n{block}\n```\n```\nno\n```")) == found


def test_every_script_that_is_named_can_be_run() -> None:
    named = set(re.findall(r"(?<![\w/.])(?:scripts|\.ci)/[\w-]+", README.read_text()))
    assert {"scripts/setup", "scripts/test"} <= named
    assert [name for name in sorted(named) if not os.access(ROOT / name, os.X_OK)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_linked_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page: Path) -> None:
    found = modulus_commands(page)
    assert found, f"{page.name} shows no command of modulus"
    for words in found:
        if {"-h", "--help", "--version"} & set(words):
            with pytest.raises(SystemExit):
                make_parser().parse_args(words[1:])
            continue
        options = make_parser().parse_args(words[1:])
        if getattr(options, "instance", None):
            parse_instance(options.instance, "")
