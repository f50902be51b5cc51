"""Debian control text: stanzas of fields, dependencies and version numbers.

Source: deb822(5), Debian Policy sections 5.6.12 (versions) and 7.1 (dependencies).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_RELATION = re.compile(
    r"(?P<name>[a-zA-Z0-9][a-zA-Z0-9+.-]*)(?::[a-z0-9-]+)?"
    r"(?:\s*\(\s*(?P<operator><<|<=|=|>=|>>)\s*(?P<version>[^\s)]+)\s*\))?"
)
_REPACKED = re.compile(r"[+~.](?:dfsg|ds|repack)[.0-9]*$")


@dataclass(frozen=True)
class Relation:
    """A package that another one needs; ``operator`` and ``version`` are "" for any version."""

    name: str
    operator: str = ""
    version: str = ""


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The stanzas of ``text``: fields by their name in lower case.

    Comments and lines that are no field are skipped; a folded value keeps its newlines.
    """
    fields: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line.strip()
        else:
            key, colon, value = line.partition(":")
            name = key.strip().lower() if colon else ""
            if name:
                fields[name] = value.strip()
    if fields:
        yield fields


def relations(text: str) -> tuple[tuple[Relation, ...], ...]:
    """The groups of a dependency field: all must hold, each by one of its alternatives."""
    groups = []
    for group in text.split(","):
        matches = [_RELATION.match(item.strip()) for item in group.split("|")]
        alternatives = tuple(
            Relation(match["name"], match["operator"] or "", match["version"] or "")
            for match in matches
            if match
        )
        if alternatives:
            groups.append(alternatives)
    return tuple(groups)


def upstream_version(version: str) -> str:
    """A package's version without its epoch, revision and mark of a repacked source."""
    without_epoch = version.rpartition(":")[2] if re.match(r"\d+:", version) else version
    upstream = without_epoch.rpartition("-")[0] or without_epoch
    return _REPACKED.sub("", upstream)
