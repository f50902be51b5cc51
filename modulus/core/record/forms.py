"""The forms of the values in records; each value is checked against one before use.

A form takes a JSON value and returns it in the type the program works with, or raises
ValueError with what it must be. The form of a path, a key or a URL is as narrow as its use: the
writer of a record is not trusted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from modulus.core.instance import Instance, parse_instance
from modulus.core.record.json_text import is_sound
from modulus.errors import UsageError

_T = TypeVar("_T")
_K = TypeVar("_K")

Form = Callable[[object], _T]

_MOST_NAME = 255
"""Bytes of a file's name, on Linux."""
_MOST_PATH = 4095
_MOST_TEXT = 16 << 10
_MOST_CONTENT = 1 << 20
_MOST_ITEMS = 100_000
_MOST_COUNT = 1 << 53
_ODD_PARTS = frozenset(("", ".", ".."))


class Fields:
    """The fields of the mapping ``value``; those that are never asked for are ``rest``."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, Mapping):
            raise ValueError(f"{what} is not a mapping")
        self._value: Mapping[str, Any] = value
        self._what = what
        self._asked: set[str] = set()

    def __call__(self, name: str, form: Form[_T]) -> _T:
        """The field ``name``, checked by ``form``; ValueError names it and its record."""
        self._asked.add(name)
        try:
            return form(self._value.get(name))
        except ValueError as error:
            raise ValueError(f"{name} of {self._what} {error}") from None

    @property
    def all(self) -> Mapping[str, Any]:
        """All fields, unchecked."""
        return self._value

    @property
    def rest(self) -> dict[str, Any]:
        """The fields that nobody asked for: another version's."""
        return {k: v for k, v in self._value.items() if k not in self._asked}


def pattern(expression: str, what: str, most: int = _MOST_NAME) -> Form[str]:
    """Text that the whole of ``expression`` matches; ``what`` completes "must be"."""
    match: Callable[[str], object] | None = None

    def form(value: object) -> str:
        nonlocal match
        if match is None:
            # A process uses few of them, and a warm start has no time to compile the others.
            match = re.compile(expression, re.ASCII).fullmatch
        if not isinstance(value, str) or len(value) > most or not match(value):
            raise ValueError(f"must be {what}")
        return value

    return form


sha256 = pattern("[0-9a-f]{64}", "a sha256")
hexadecimal = pattern("[0-9a-f]{1,128}", "hexadecimal digits")
release = pattern("[0-9][0-9A-Za-z._+~-]*", "a kernel's release", 64)
"""As ``uname -r`` says it, in 64 bytes."""
module_name = pattern("[A-Za-z0-9_][A-Za-z0-9_-]*", "the name of a kernel module")
word = pattern(r"[A-Za-z0-9_][A-Za-z0-9._+:~-]*", "a word")
"""A name of a package, command or component, or a version: never with a ``/``."""
time = pattern(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", "a time in RFC 3339"
)


def text(value: object) -> str:
    """Text of any number of lines."""
    return _text(value, _MOST_TEXT)


def content(value: object) -> str:
    """The text of a whole file."""
    return _text(value, _MOST_CONTENT)


def line(value: object) -> str:
    """Text that is one line and can be shown."""
    if not isinstance(value, str) or len(value) > _MOST_PATH or not value.isprintable():
        raise ValueError("must be one line of text")
    return value


def name(value: object) -> str:
    """The name of a file, without a folder."""
    found = line(value)
    if not found or "/" in found or found in (".", "..") or _length(found) > _MOST_NAME:
        raise ValueError("must be the name of a file")
    return found


def relative(value: object) -> str:
    """A path that does not leave the folder it is relative to."""
    found = path(value)
    if not is_inside(found):
        raise ValueError("must be a path inside the folder")
    return found


def absolute(value: object) -> str:
    """An absolute path, without ``..``."""
    found = path(value)
    if not found.startswith("/") or not is_inside(found[1:]):
        raise ValueError("must be an absolute path")
    return found


def path(value: object) -> str:
    """Any path, such as what a link may point to."""
    found = _text(value, _MOST_PATH)
    if not found or _length(found) > _MOST_PATH:
        raise ValueError("must be a path")
    return found


def instance(value: object) -> Instance:
    """A driver and its version."""
    try:
        return parse_instance(line(value), "")
    except UsageError as error:
        raise ValueError("must be the name of an instance") from error


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def count(value: object) -> int:
    """A whole number, from 0 on."""
    return number(0, _MOST_COUNT)(value)


def number(least: int, most: int) -> Form[int]:
    """A whole number within bounds."""

    def form(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return form


any_number = number(-(1 << 63), (1 << 63) - 1)
"""A whole number, such as a time, which may lie before 1970."""


def seconds(value: object) -> float:
    """Seconds, or another finite quantity that is not below 0."""
    # NaN fails the comparison.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e15:
        raise ValueError("must be a finite number")
    return float(value)


def one_of(*choices: str) -> Form[str]:
    """One of ``choices``."""

    def form(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return form


def exactly(only: object) -> Form[object]:
    """The one value ``only``, such as a schema's number."""

    def form(value: object) -> object:
        if value != only or type(value) is not type(only):
            raise ValueError(f"must be {only}")
        return value

    return form


def optional(item: Form[_T]) -> Form[_T | None]:
    """``item``, or None for null or nothing."""
    return lambda value: None if value is None else item(value)


def list_of(item: Form[_T], most: int = _MOST_ITEMS) -> Form[tuple[_T, ...]]:
    """A list of at most ``most`` values of ``item``."""

    def form(value: object) -> tuple[_T, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > most:
            raise ValueError(f"must be a list of at most {most}")
        return tuple(map(item, value))

    return form


def map_of(key: Form[_K], item: Form[_T], most: int = _MOST_ITEMS) -> Form[dict[_K, _T]]:
    """A mapping of ``key`` to ``item``, at most ``most``."""

    def form(value: object) -> dict[_K, _T]:
        if not isinstance(value, Mapping) or len(value) > most:
            raise ValueError(f"must be a mapping of at most {most}")
        return {key(name): item(one) for name, one in value.items()}

    return form


def _text(value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most or not is_sound(value):
        raise ValueError(f"must be text of at most {most} characters")
    return value


def _length(text: str) -> int:
    """The length in bytes, as the kernel counts."""
    return len(text.encode("utf-8", "surrogateescape"))


def is_inside(path: str) -> bool:
    """Whether ``path`` is a plain relative path: no empty, ``.`` or ``..`` part."""
    return "\0" not in path and _ODD_PARTS.isdisjoint(path.split("/"))
