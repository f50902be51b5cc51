"""The table as text, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.ratios import Cost, Result, Spread, spread

BEGIN = "<!-- Written by scripts/bench: begin -->"
END = "<!-- Written by scripts/bench: end -->"

_HEADINGS = ("what", "against", "pairs", "ratio", "spread", "at most", "")
_MEGA = 1_000_000


@dataclass(frozen=True)
class Report:
    """What a run of the command found, and where: ``facts`` name machine, date, command."""

    facts: Mapping[str, str]
    results: tuple[Result, ...]


def text(report: Report) -> str:
    """For a terminal."""
    rows = [_HEADINGS, *(_cells(result) for result in report.results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [f"{name}: {value}" for name, value in report.facts.items()] + [""]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.append("")
    for result in report.results:
        lines += [f"{result.row.name}: {line}" for line in details(result)]
    return "\n".join(lines) + "\n"


def markdown(report: Report) -> str:
    """For a document, without a heading."""
    lines = [f"- {name}: {value}" for name, value in report.facts.items()]
    lines += ["", _line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    lines += [_line(_cells(result)) for result in report.results]
    lines += [""]
    for result in report.results:
        lines += [f"- {result.row.name}: {line}" for line in details(result)]
    return "\n".join(lines) + "\n"


def replaced(document: str, part: str) -> str:
    """``document`` with ``part`` between the marks; ValueError where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"it lacks the line {BEGIN if not begin else END}")
    return f"{before}{BEGIN}\n{part}{END}{after}"


def as_json(report: Report) -> dict[str, Any]:
    """Every measurement, and what they come to."""
    return {
        "facts": dict(report.facts),
        "rows": [_row(result) for result in report.results],
    }


def details(result: Result) -> list[str]:
    """What the table has no column for: each side's median, CPU, the floor, notes."""
    if result.row.measure == "size":
        sizes = [spread([cost.size for cost in side]) for side in (result.ours, result.theirs)]
        first = [f"{_size(sizes[0].median)} against {_size(sizes[1].median)}"]
    else:
        first = [_sides("wall", _seconds(result.ours, "wall"), _seconds(result.theirs, "wall"))]
        cpu = _sides("CPU", _seconds(result.ours, "cpu"), _seconds(result.theirs, "cpu"))
        if result.cpu_ratio:
            first.append(f"{cpu}, ratio {_range(result.cpu_ratio)}")
    if result.above_floor:
        floor = spread([cost.cpu for cost in result.floor]).median
        first.append(
            f"CPU is {_range(result.above_floor)} times the floor, "
            f"the {_time(floor)} that the vendor's objects alone take"
        )
    return [*first, *result.notes]


def _cells(result: Result) -> tuple[str, ...]:
    row, ratio = result.row, result.ratio
    verdict = {True: "met", False: "missed", None: ""}[result.met]
    return (
        row.what,
        row.against,
        str(len(result.ours)),
        _number(ratio.median),
        f"{_number(ratio.low)} to {_number(ratio.high)}",
        "" if row.bar is None else f"{row.bar:g}",
        verdict,
    )


def _row(result: Result) -> dict[str, Any]:
    return {
        "name": result.row.name,
        "what": result.row.what,
        "against": result.row.against,
        "measure": result.row.measure,
        "bar": result.row.bar,
        "met": result.met,
        "ratio": _values(result.ratio),
        "cpu_ratio": _values(result.cpu_ratio),
        "above_floor": _values(result.above_floor),
        "ours": [_cost(cost) for cost in result.ours],
        "theirs": [_cost(cost) for cost in result.theirs],
        "floor": [_cost(cost) for cost in result.floor],
        "notes": list(result.notes),
    }


def _cost(cost: Cost) -> dict[str, float]:
    return {"wall": cost.wall, "cpu": cost.cpu, "size": cost.size}


def _values(found: Spread | None) -> dict[str, float] | None:
    return (
        {"median": found.median, "low": found.low, "high": found.high}
        if found is not None
        else None
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _seconds(side: Sequence[Cost], kind: str) -> float:
    return spread([cost.wall if kind == "wall" else cost.cpu for cost in side]).median


def _sides(kind: str, ours: float, theirs: float) -> str:
    return f"{kind} {_time(ours)} against {_time(theirs)}"


def _range(found: Spread) -> str:
    if found.low == found.high:
        return _number(found.median)
    return f"{_number(found.median)} ({_number(found.low)} to {_number(found.high)})"


def _number(value: float) -> str:
    """Three digits that count for small ratios, two places for others."""
    return f"{value:.3f}" if abs(value) < 0.1 else f"{value:.2f}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds * 1000:.0f} ms"


def _size(size: float) -> str:
    return f"{size / _MEGA:.2f} MB"
