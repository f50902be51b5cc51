"""Rows of the table, and what their measurements come to."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Measure = Literal["wall", "size"]


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds by the clock and of all its processes' CPU, or bytes."""

    wall: float = 0.0
    cpu: float = 0.0
    size: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.cpu + other.cpu, self.size + other.size)

    def __truediv__(self, times: int) -> Cost:
        return Cost(self.wall / times, self.cpu / times, self.size // times)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu, self.size - other.size)


@dataclass(frozen=True)
class Spread:
    """The middle of some values, the least and the most."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """What is held against what; its ratio may be ``bar`` at most, None for one that is only
    told."""

    name: str
    what: str
    against: str
    bar: float | None
    measure: Measure = "wall"


@dataclass(frozen=True)
class Result:
    """The measurements of a row, pair by pair.

    ``floor`` is what no build can go below, empty for rows that are none. ``notes`` say what
    the numbers alone do not.
    """

    row: Row
    ours: tuple[Cost, ...]
    theirs: tuple[Cost, ...]
    floor: tuple[Cost, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> Spread:
        """Ours over theirs, each pair by itself."""
        if self.row.measure == "size":
            return _ratios([cost.size for cost in self.ours], [c.size for c in self.theirs])
        return _ratios([cost.wall for cost in self.ours], [cost.wall for cost in self.theirs])

    @property
    def cpu_ratio(self) -> Spread | None:
        """The same of CPU time; None for sizes."""
        if self.row.measure == "size":
            return None
        return _ratios([cost.cpu for cost in self.ours], [cost.cpu for cost in self.theirs])

    @property
    def above_floor(self) -> Spread | None:
        """CPU time as a multiple of the floor's, where there is one."""
        if not self.floor:
            return None
        return _ratios([cost.cpu for cost in self.ours], [cost.cpu for cost in self.floor])

    @property
    def met(self) -> bool | None:
        """Whether the median is within the bar; None without one."""
        return None if self.row.bar is None else self.ratio.median <= self.row.bar


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def rounds(contenders: Sequence[str], pairs: int) -> Iterator[str]:
    """Who runs when: all in turn, and again, so that what slows a machine down for a while
    slows down both sides of a pair."""
    for _ in range(pairs):
        yield from contenders


def chosen(rows: Sequence[Row], words: Sequence[str]) -> tuple[Row, ...]:
    """The rows that ``words`` name, whole or up to a hyphen; all without any.

    ValueError names what is none.
    """
    for word in words:
        if not any(_names(word, row) for row in rows):
            raise ValueError(word)
    return tuple(row for row in rows if not words or any(_names(word, row) for word in words))


def _names(word: str, row: Row) -> bool:
    return row.name == word or row.name.startswith(f"{word}-")


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])
