"""The generations that worked: what is recorded of them, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modulus.core.dataclass import dataclass
from modulus.core.kernelid import KernelId

MOST = 4
"""How many are remembered: two versions on two kernels."""


@dataclass(frozen=True)
class Good:
    """A generation that was loaded and verified on ``kernel``, first ``at`` (RFC 3339)."""

    generation: str
    instance: str
    kernel: KernelId
    at: str


def parse_good(value: object) -> tuple[Good, ...]:
    """The record that JSON values tell of; entries that are none are left out."""
    entries = map(_parse, value if isinstance(value, list) else [])
    return tuple(entry for entry in entries if entry)


def good_value(entries: Iterable[Good]) -> list[dict[str, Any]]:
    """``entries`` as JSON values."""
    return [
        {
            "generation": entry.generation,
            "instance": entry.instance,
            "kernel": entry.kernel.release,
            "kernel_version": entry.kernel.version,
            "build_id": entry.kernel.build_id,
            "at": entry.at,
        }
        for entry in entries
    ]


def with_newest(entries: tuple[Good, ...], newest: Good) -> tuple[Good, ...]:
    """``entries`` with ``newest`` before all others; as they are where it is the newest."""
    if entries and entries[0].generation == newest.generation:
        return entries
    others = (entry for entry in entries if entry.generation != newest.generation)
    return (newest, *others)[:MOST]


def names_for(entries: Iterable[Good], kernel: KernelId) -> tuple[str, ...]:
    """The generations that worked on ``kernel``, the newest first."""
    return tuple(entry.generation for entry in entries if entry.kernel == kernel)


def _parse(value: object) -> Good | None:
    if not isinstance(value, Mapping):
        return None
    words = [value.get(name) for name in ("generation", "instance", "kernel", "at")]
    details = [value.get(name) for name in ("kernel_version", "build_id")]
    if not all(isinstance(word, str) for word in words):
        return None
    if not all(detail is None or isinstance(detail, str) for detail in details):
        return None
    generation, instance, release, at = map(str, words)
    return Good(generation, instance, KernelId(release, *details), at)
