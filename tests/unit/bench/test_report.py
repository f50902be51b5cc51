from __future__ import annotations

import json

import pytest

from tests.bench.ratios import Cost, Result, Row
from tests.bench.report import BEGIN, END, Report, as_json, markdown, replaced, text

BUILD = Result(
    Row("first", "first build", "`dkms build`", 0.75),
    (Cost(60, 100), Cost(70, 120), Cost(80, 110)),
    (Cost(100, 200), Cost(100, 200), Cost(100, 200)),
    (Cost(40, 80), Cost(40, 80), Cost(40, 80)),
    ("kernel 6.1",),
)
GROWTH = Result(
    Row("growth", "one more kernel", "`tar`", 0.08, "size"),
    (Cost(size=10_000_000),),
    (Cost(size=100_000_000),),
)
TOLD = Result(Row("make", "first build", "`make`", None), (Cost(0.05, 1),), (Cost(1, 1),))
REPORT = Report({"date": "today", "machine": "one"}, (BUILD, GROWTH, TOLD))


def test_the_text_says_ratio_spread_bar_and_verdict() -> None:
    assert text(REPORT).splitlines() == [
        "date: today",
        "machine: one",
        "",
        "what             against       pairs  ratio  spread          at most",
        "first build      `dkms build`  3      0.70   0.60 to 0.80    0.75     met",
        "one more kernel  `tar`         1      0.10   0.10 to 0.10    0.08     missed",
        "first build      `make`        1      0.050  0.050 to 0.050",
        "",
        "first: wall 70.0 s against 100.0 s",
        "first: CPU 110.0 s against 200.0 s, ratio 0.55 (0.50 to 0.60)",
        "first: CPU is 1.38 (1.25 to 1.50) times the floor, "
        "the 80.0 s that the vendor's objects alone take",
        "first: kernel 6.1",
        "growth: 10.00 MB against 100.00 MB",
        "make: wall 50 ms against 1000 ms",
        "make: CPU 1000 ms against 1000 ms, ratio 1.00",
    ]


def test_the_document_has_the_same_table() -> None:
    lines = markdown(REPORT).splitlines()
    assert "- machine: one" in lines
    assert "| first build | `dkms build` | 3 | 0.70 | 0.60 to 0.80 | 0.75 | met |" in lines
    assert "- growth: 10.00 MB against 100.00 MB" in lines


def test_only_what_is_between_the_marks_is_replaced() -> None:
    once = replaced(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new\n")
    assert once == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert replaced(once, "new\n") == once


@pytest.mark.parametrize("document", ["", f"{END} {BEGIN}", BEGIN, END])
def test_a_document_without_the_marks_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="lacks"):
        replaced(document, "new")


def test_json_has_every_measurement() -> None:
    value = json.loads(json.dumps(as_json(REPORT)))
    first = value["rows"][0]
    assert [cost["wall"] for cost in first["ours"]] == [60, 70, 80]
    assert first["above_floor"] == {"median": 1.375, "low": 1.25, "high": 1.5}
    assert (first["met"], value["rows"][1]["met"], value["rows"][2]["met"]) == (
        True,
        False,
        None,
    )
    assert value["rows"][1]["cpu_ratio"] is None
