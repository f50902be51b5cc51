"""What docs/reference.md says exists, and nothing that exists is missing from it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from modulus import errors
from modulus.cli.parser import make_parser
from modulus.core.config import settings
from modulus.core.config.schema_types import ListOf, MapOf, Maybe, Problems, Record, Schema
from modulus.core.profile import schema as profile_schema

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/reference.md").read_text()
PROSE = re.sub(r"^```.*?^```\n", "", TEXT, flags=re.MULTILINE | re.DOTALL)
"""Without the examples: a comment in one is no heading."""


def section(title: str) -> str:
    """The text below the heading ``title``, up to the next one of any level."""
    pattern = rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)"
    match = re.search(pattern, PROSE, re.MULTILINE | re.DOTALL)
    assert match, f"there is no section {title}"
    return match[1]


def rows(title: str) -> list[list[str]]:
    """The cells of the tables below the heading ``title``, without their heads."""
    found: list[list[str]] = []
    for line in section(title).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|---"):
            found.pop()
        elif line.startswith("|"):
            found.append(cells)
    return found


def coded(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def keys(schema: Schema, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Every key below ``schema``, dotted, and whether it must be there."""
    if isinstance(schema, Maybe):
        yield from keys(schema.item, prefix)
    elif isinstance(schema, ListOf):
        yield from keys(schema.item, f"{prefix}[]")
    elif isinstance(schema, MapOf):
        yield from keys(schema.value, f"{prefix}.NAME")
    elif isinstance(schema, Record):
        for name, child in schema.fields.items():
            key = f"{prefix}.{name}" if prefix else name
            yield key, name in schema.required
            yield from keys(child, key)


def settings_rows() -> dict[str, list[str]]:
    return {key: row for row in rows("Settings") for key in coded(row[0])}


def settings_keys() -> set[str]:
    """What a value can be given to by itself; a mirror's own keys are in its type."""
    found = {key for key, _ in keys(settings.GENERAL) if "[]" not in key}
    return {key for key in found if not any(other.startswith(f"{key}.") for other in found)}


def default(key: str) -> Any:
    value: Any = settings.DEFAULTS
    for part in key.split("."):
        value = value[part]
    return value


def is_read(key: str) -> bool:
    """Whether the program looks at the setting ``key``."""
    reading = re.compile(rf"\bsettings\.{re.escape(key)}\b")
    return any(
        reading.search(path.read_text()) for path in sorted((ROOT / "modulus").rglob("*.py"))
    )


def parsers(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every parser with the command words that lead to it."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parsers(child, (*words, name))


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}


PARSERS: Mapping[tuple[str, ...], argparse.ArgumentParser] = dict(parsers(make_parser()))
GROUPS = {(), ("cache",), ("render",)}
COMMANDS = {words: parser for words, parser in PARSERS.items() if words not in GROUPS}
COMMON = set.intersection(*map(options, PARSERS.values()))


def documented_options() -> dict[tuple[str, ...], set[str]]:
    """The options by command; ("any",) are those of all, ("none",) those before any."""
    found: dict[tuple[str, ...], set[str]] = {}
    for command, option, _ in rows("Options"):
        names = {name.split(" ")[0] for name in coded(option)}
        for words in coded(command) or [command]:
            found.setdefault(tuple(words.split(" ")), set()).update(names)
    return found


def test_every_setting_is_there_once() -> None:
    assert len(coded("".join(row[0] for row in rows("Settings")))) == len(settings_rows())
    assert set(settings_rows()) == settings_keys() | {"drivers"}
    assert set(settings.SCHEMA.fields) - set(settings.GENERAL.fields) == {"drivers"}


@pytest.mark.parametrize("key", sorted(settings_keys()))
def test_a_setting_has_its_default_and_is_used(key: str) -> None:
    row = settings_rows()[key]
    assert [yaml.safe_load(text) for text in coded(row[2])] == [default(key)]
    assert is_read(key)


@pytest.mark.parametrize("key", ["mirrors", "stores"])
def test_every_form_of_a_place_is_there(key: str) -> None:
    beginning = f"{key}[]."
    inner = {
        name.removeprefix(beginning)
        for name, _ in keys(settings.GENERAL)
        if name.startswith(beginning)
    }
    assert inner == set(re.findall(r"\w+", coded(settings_rows()[key][1])[0]))


@pytest.mark.parametrize("choice", ["build.container", "flavour", "on_no_gpu", "ready_when"])
def test_every_choice_is_taken(choice: str) -> None:
    head, _, tail = choice.partition(".")
    for word in coded(settings_rows()[choice][1]):
        problems = Problems()
        settings.GENERAL.check({head: {tail: word} if tail else word}, "", problems)
        assert not problems, word


def test_every_key_of_a_profile_is_there() -> None:
    cells = [row[0] for row in rows("Profiles")]
    assert sorted(key for cell in cells for key in coded(cell)) == sorted(
        key for key, _ in keys(profile_schema.SCHEMA)
    )
    bold = re.findall(r"\*\*`([^`]+)`\*\*", " ".join(cells))
    assert set(bold) == {key for key, required in keys(profile_schema.SCHEMA) if required}


def test_every_exit_code_is_there() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.ModulusError)}
    assert [int(row[0]) for row in rows("Exit codes")] == sorted({0} | codes)


def test_every_command_is_there() -> None:
    found = [coded(row[0])[0].split(" ")[1:] for row in rows("Commands")]
    names = [tuple(word for word in words if re.fullmatch("[a-z-]+", word)) for words in found]
    assert sorted(names) == sorted(COMMANDS)


def test_every_option_is_there_with_its_command() -> None:
    own = {words: options(parser) - COMMON for words, parser in COMMANDS.items()}
    expected = {words: names for words, names in own.items() if names}
    expected[("any",)] = COMMON
    expected[("none",)] = options(PARSERS[()]) - COMMON
    assert documented_options() == expected


def test_no_other_option_or_command_is_named() -> None:
    known = set.union(*map(options, PARSERS.values()))
    named = set(re.findall(r"(?<![\w-])(?:--[a-z][a-z0-9-]*|-[a-z]\b)", TEXT))
    assert named <= known
    for command in re.findall(r"\bmodulus ([a-z]+(?: [a-z-]+\b)?)", TEXT):
        words = tuple(command.split(" "))
        assert words in COMMANDS or words[:1] in COMMANDS, command


def examples() -> dict[str, Any]:
    """The YAML blocks by the file that their first line names."""
    blocks = re.findall(r"^```yaml\n(# (\S+\.yaml).*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return {Path(name).name: yaml.safe_load(text) for text, name in blocks}


def test_the_examples_are_good() -> None:
    problems = Problems()
    found = examples()
    assert set(found) == {"modulus.yaml", "hello.yaml"}
    settings.SCHEMA.check(found["modulus.yaml"], "", problems)
    assert profile_schema.parse_profile(found["hello.yaml"], "hello", problems), vars(problems)
    assert not problems, vars(problems)


def test_every_link_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
    headings = {title.lower().replace(" ", "-") for title in titles}
    for file, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", TEXT):
        assert (ROOT / "docs" / file).exists()
        assert not anchor or anchor in headings
