"""The kinds of values that only profiles have, such as templates, ranges and patterns."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from modulus.core.config.fields import url
from modulus.core.config.schema_types import MapOf, Scalar, integer, text
from modulus.core.record.forms import is_inside
from modulus.core.version import Range

FOLDERS = ("bin", "lib", "firmware", "share")
"""The folders of a driver's tree that userspace goes to."""

PLACEHOLDERS = ("source", "build", "work", "cc", "arch", "jobs", "modules")
"""What a variable for make may hold in braces; ``core.build.recipe`` fills it in."""


def parsed(parse: Callable[[str], Any], what: str) -> Scalar:
    """Text that ``parse`` takes; ``what`` completes the "must be" of the error."""

    def check(value: object) -> Any:
        try:
            if isinstance(value, str):
                return parse(value)
        except (ValueError, LookupError, AttributeError, TypeError, re.error):
            pass
        raise ValueError(f"must be {what}")

    return Scalar(check)


def template(what: str, *fields: str, first: tuple[str, ...] = ()) -> Scalar:
    """A relative path that stays in its folder, with some ``{fields}`` in it."""

    def parse(value: str) -> str:
        plain = value
        for name in fields:
            plain = plain.replace(f"{{{name}}}", "x")
        head = plain.split("/", 1)[0]
        if not is_inside(plain) or re.search(r"[{}\x00-\x1f\x7f]", plain):
            raise ValueError
        if first and head not in first:
            raise ValueError
        return value

    return parsed(parse, what)


def _make_value(value: str) -> str:
    if not set(re.findall(r"\{(.*?)\}", value)) <= set(PLACEHOLDERS):
        raise ValueError
    if re.search(r"[{}\x00-\x1f\x7f]", re.sub(r"\{.*?\}", "", value)):
        raise ValueError
    return value


def _counter(value: str) -> str:
    if re.compile(value).groups > 1:
        raise ValueError
    return value


def _pattern(value: str) -> str:
    re.compile(value)
    return value


def _sentence(value: str) -> str:
    value.format(release="")
    return value


RANGE = parsed(Range.parse, "a range of versions, such as >=6.8,<6.13")
NOTE = text(r"[^\x00-\x1f\x7f]+", "a sentence on one line")
WORD = text(r"[A-Za-z][A-Za-z0-9_]*", "a word")
TYPE = text(r"[A-Z][A-Z0-9_]*", "a type of file, such as CUDA_LIB")
FLAVOUR = text(r"[a-z][a-z0-9_-]*", "the name of a flavour, in lower case")
CONFIG = text(r"[A-Za-z0-9_]+", "a kernel option, such as VIDEO_DEV")
ID = integer(0, 0xFFFF, "a number of 16 bits, such as 0x10de")
REGEX = parsed(_pattern, "a regular expression")
COUNTER = parsed(_counter, "a regular expression with at most one group")
SENTENCE = parsed(_sentence, "a sentence in which only {release} stands in braces")
FILE = template("a path within its folder")
SOURCE_DIR = template("a path within the package; {version} may stand in it", "version")
TARGET_DIR = template(
    f"a path that begins with {', '.join(FOLDERS)}; {{version}} and {{path}} may stand in it",
    "version",
    "path",
    first=FOLDERS,
)
MAKE = MapOf(
    text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable"),
    parsed(
        _make_value,
        "text in which only {} stand in braces".format(
            " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        ),
    ),
)
URL = url("https", "http", "file")
