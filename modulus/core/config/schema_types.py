"""What a configuration file may hold, as data; every problem is noted, none stops the check.

A schema is a tree of Scalar, ListOf, MapOf, Record and Maybe. ``check`` returns the value in
the types the program works with; that value is of use only where no problem was noted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from modulus.errors import ConfigError
from modulus.redact import redact_text

_MOST_ITEMS = 1000
"""More than any real list has; each item is compared with all others."""


class Problems:
    """What is wrong, line by line, each with where it is; shared by all sources checked."""

    def __init__(self, source: str = "", lines: list[str] | None = None) -> None:
        self._source = source
        self._lines: list[str] = [] if lines is None else lines

    def within(self, source: str) -> Problems:
        """The same collection, for what is found in ``source`` (a file, a variable)."""
        return Problems(source, self._lines)

    def add(self, key: str, text: str) -> None:
        """Notes a problem with the dotted ``key``, which may be empty."""
        line = ": ".join(part for part in (self._source, key, text) if part)
        # A key may be any text, but a problem stays one line of a terminal or a log.
        self._lines.append(
            "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)
        )

    def __len__(self) -> int:
        return len(self._lines)

    def fail(self, hint: str) -> NoReturn:
        """Raises ConfigError with all that was noted."""
        raise ConfigError("\n".join(self._lines), hint)


class Schema(Protocol):
    """One node of the tree."""

    def check(self, value: object, key: str, problems: Problems) -> Any:
        """``value`` as the program wants it; what is wrong goes to ``problems``."""


@dataclass(frozen=True)
class Scalar:
    """A single value; ``parse`` raises ValueError with what it must be."""

    parse: Callable[[object], Any]

    def check(self, value: object, key: str, problems: Problems) -> Any:
        try:
            return self.parse(value)
        except ValueError as error:
            problems.add(key, f"{error}, not {shown(value)}")


@dataclass(frozen=True)
class Maybe:
    """A value, or one ``word`` (null by default) that stands for None."""

    item: Schema
    word: str | None = None

    def check(self, value: object, key: str, problems: Problems) -> Any:
        return None if value == self.word else self.item.check(value, key, problems)


@dataclass(frozen=True)
class Misplaced:
    """A key that may not stand here, and ``why``."""

    why: str

    def check(self, value: object, key: str, problems: Problems) -> None:  # noqa: ARG002 - as of any schema
        problems.add(key, self.why)


@dataclass(frozen=True)
class ListOf:
    """A list without repetitions; with ``lone`` a single value stands for a list of one."""

    item: Schema
    lone: bool = False
    least: int = 0

    def check(self, value: object, key: str, problems: Problems) -> tuple[Any, ...]:
        if self.lone and not isinstance(value, list) and value is not None:
            value = [value]
        if not isinstance(value, list):
            problems.add(key, f"must be a list, such as [a, b], not {shown(value)}")
            return ()
        if len(value) < self.least:
            problems.add(key, "must not be empty")
        if len(value) > _MOST_ITEMS:
            problems.add(key, f"must not have more than {_MOST_ITEMS} items")
            return ()
        found = []
        for index, item in enumerate(value):
            found.append(self.item.check(item, f"{key}[{index}]", problems))
            if found[-1] is not None and found[-1] in found[:-1]:
                problems.add(f"{key}[{index}]", f"{shown(item)} is there twice")
        return tuple(found)


@dataclass(frozen=True)
class MapOf:
    """A mapping with free keys of one form."""

    key: Scalar
    value: Schema

    def check(self, value: object, key: str, problems: Problems) -> dict[str, Any]:
        return {
            self.key.check(name, join(key, name), problems): self.value.check(
                item, join(key, name), problems
            )
            for name, item in _mapping(value, key, problems).items()
        }


@dataclass(frozen=True)
class Record:
    """A mapping with known keys; ``short`` names the key that a lone value is for."""

    fields: Mapping[str, Schema]
    required: tuple[str, ...] = ()
    short: str | None = None
    make: Callable[..., Any] = dict

    def check(self, value: object, key: str, problems: Problems) -> Any:
        """What ``make`` makes of the keys that are there; None where a problem was noted."""
        before = len(problems)
        if self.short and value is not None and not isinstance(value, (dict, list)):
            value = {self.short: value}
        given = _mapping(value, key, problems)
        found = {}
        for name, item in given.items():
            if name in self.fields:
                found[name] = self.fields[name].check(item, join(key, name), problems)
            else:
                problems.add(join(key, name), self._unknown(key, name))
        for name in self.required:
            if name not in given:
                problems.add(join(key, name), "is missing")
        return self.make(**found) if len(problems) == before else None

    def _unknown(self, key: str, name: str) -> str:
        near = close(name, self.fields)
        if near is None:
            # Right name, wrong place: one section further down.
            near = next(
                (
                    f"{section}.{name}"
                    for section, schema in self.fields.items()
                    if isinstance(schema, Record) and name in schema.fields
                ),
                None,
            )
        return "unknown key" + (f", did you mean {join(key, near)}?" if near else "")


def join(key: str, name: str) -> str:
    """The dotted key of ``name`` within ``key``."""
    return f"{key}.{name}" if key else name


def close(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``name`` probably means, or None."""
    return next(iter(difflib.get_close_matches(name, known, 1)), None)


def shown(value: object) -> str:
    """``value`` for a message, cut short."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    shown = redact_text(value) if isinstance(value, str) else value
    text = "nothing" if value is None else repr(shown)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _mapping(value: object, key: str, problems: Problems) -> Mapping[str, Any]:
    """A section whose lines are all commented out is an empty one."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    problems.add(key, f"must be a mapping (KEY: VALUE), not {shown(value)}")
    return {}


def text(pattern: str, what: str) -> Scalar:
    """Text that ``pattern`` matches as a whole; ``what`` completes "must be"."""

    def parse(value: object) -> str:
        # re compiles a pattern at its first use, and keeps it: a process uses few of them.
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"must be {what}")
        return value

    return Scalar(parse)


def choice(*names: str) -> Scalar:
    """One of ``names``."""

    def parse(value: object) -> str:
        if value not in names:
            near = close(value, names) if isinstance(value, str) else None
            meant = f" (did you mean {near}?)" if near else ""
            raise ValueError(f"must be one of {', '.join(names)}{meant}")
        return str(value)

    return Scalar(parse)


def integer(least: int, most: int, what: str) -> Scalar:
    """A whole number within bounds; ``what`` completes "must be"."""

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be {what}")
        return value

    return Scalar(parse)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


BOOLEAN = Scalar(_boolean)
