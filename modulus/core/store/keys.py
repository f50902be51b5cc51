"""What a build is: a key over every input that can change its bits, and why a key differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN = "unknown until provisioned"
"""Stands for an input whose digest nothing on this node has recorded yet."""

SHORT = 12
"""How many digits of a key people are shown."""


@dataclass(frozen=True)
class Difference:
    """One input in which two builds differ; None where a build does not have it."""

    input: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        return f"{self.input}: {self.old or '-'} -> {self.new or '-'}"


def canonical_json(value: object) -> bytes:
    """The one spelling of ``value`` that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(value: object) -> str:
    """The sha256, in hexadecimal, of ``value``'s canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def build_key(inputs: Mapping[str, Any]) -> str | None:
    """The key of a build from its ``inputs``, or None while one of them is unknown."""
    if UNKNOWN in flatten(inputs).values():
        return None
    return digest(inputs)


def flatten(inputs: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``inputs`` with nested mappings as dotted names and every value as text."""
    flat: dict[str, str] = {}
    for name, value in inputs.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else canonical_json(value).decode()
            flat[f"{prefix}{name}"] = text
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Where ``new`` differs from ``old``, by input."""
    before, after = flatten(old), flatten(new)
    return tuple(
        Difference(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def nearest(
    wanted: Mapping[str, Any], others: Iterable[Mapping[str, Any]]
) -> tuple[Difference, ...] | None:
    """The differences of ``wanted`` from the nearest of ``others``; None without others."""
    candidates = [differences(other, wanted) for other in others]
    return min(candidates, key=len, default=None)
