"""The record of generations that worked, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modulus.core.kernel.identity import KernelId, parse_kernel
from modulus.core.record import forms
from modulus.core.record.forms import Fields

MOST = 4
"""How many are remembered: two versions on two kernels."""
_MOST_READ = 100


@dataclass(frozen=True)
class Good:
    """A generation that was loaded and verified on ``kernel``, first ``at`` (RFC 3339).

    ``more`` is what another version of Modulus has recorded of it.
    """

    generation: str
    instance: str
    kernel: KernelId
    at: str
    more: Mapping[str, Any] = field(default_factory=dict)


def parse_good(value: object) -> tuple[Good, ...]:
    """The record in JSON values; ValueError for anything else."""
    return forms.list_of(_parse, _MOST_READ)(value)


def good_value(entries: Iterable[Good]) -> list[dict[str, Any]]:
    """``entries`` as JSON values."""
    return [
        {
            **entry.more,
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
    """``entries`` with ``newest`` first; unchanged where its generation is first already."""
    if entries and entries[0].generation == newest.generation:
        return entries
    others = (entry for entry in entries if entry.generation != newest.generation)
    return (newest, *others)[:MOST]


def names_for(entries: Iterable[Good], kernel: KernelId) -> tuple[str, ...]:
    """The generations that worked on ``kernel``, the newest first."""
    return tuple(entry.generation for entry in entries if entry.kernel == kernel)


def _parse(value: object) -> Good:
    of = Fields(value, "a generation that worked")
    return Good(
        of("generation", forms.name),
        str(of("instance", forms.instance)),
        parse_kernel(of),
        of("at", forms.time),
        of.rest,
    )
