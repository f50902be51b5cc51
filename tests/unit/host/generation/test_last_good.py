"""What is remembered of the generations that worked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modulus.core.generation.last_good import (
    Good,
    good_value,
    names_for,
    parse_good,
    with_newest,
)
from modulus.core.kernel.identity import KernelId
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.last_good import good_generations, recorded_drivers
from tests.support.headertrees import write

HERE = KernelId("6.1.0-9-amd64", "#1 SMP", "aa")
AGAIN = KernelId("6.1.0-9-amd64", "#2 SMP", "bb")


def good(name: str, kernel: KernelId = HERE) -> Good:
    return Good(name, "gpu-1.0", kernel, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("before", "newest", "after"),
    [
        ("", "a", "a"),
        ("a", "b", "ba"),
        ("ba", "b", "ba"),
        ("ba", "a", "ab"),
        ("dcba", "e", "edcb"),
        ("dcba", "a", "adcb"),
    ],
)
def test_the_newest_comes_first_and_four_are_kept(before: str, newest: str, after: str) -> None:
    found = with_newest(tuple(map(good, before)), good(newest))
    assert "".join(entry.generation for entry in found) == after


def test_a_kernel_that_was_built_again_is_another_one() -> None:
    entries = (good("c", AGAIN), good("b"), good("a"))
    assert names_for(entries, HERE) == ("b", "a")
    assert names_for(entries, KernelId("6.1.0-9-amd64")) == ()


def test_a_record_reads_as_it_was_written() -> None:
    entries = (good("b", KernelId("6.1")), good("a"))
    assert parse_good(json.loads(json.dumps(good_value(entries)))) == entries


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        ["a"],
        [{**good_value([good("a")])[0], "generation": "a\0b"}],
        [{**good_value([good("a")])[0], "generation": "../../b"}],
        [{**good_value([good("a")])[0], "instance": "b"}],
        [{**good_value([good("a")])[0], "at": "now"}],
        good_value(map(good, "a" * 1000)),
        [{"generation": "a", "instance": "gpu-1.0", "kernel": "6.1"}],
        [{**good_value([good("a")])[0], "generation": 3}],
        [{**good_value([good("a")])[0], "build_id": 3}],
    ],
)
def test_what_is_damaged_is_no_record(value: Any) -> None:
    with pytest.raises(ValueError):
        parse_good(value)


def test_what_another_version_has_recorded_is_kept() -> None:
    value = [{**good_value([good("a")])[0], "later": [1]}]
    assert good_value(with_newest(parse_good(value), good("b")))[1:] == value


def test_a_generation_that_is_gone_or_lies_elsewhere_is_not_found(tmp_path: Path) -> None:
    record = tmp_path / "var/lib/modulus/gpu/good.json"
    write(record, json.dumps(good_value([good("a"), good("../../other/.gpu/a")])))
    assert recorded_drivers(tmp_path) == ("gpu",)
    assert good_generations(DriverPaths(tmp_path, "gpu"), HERE) == ()
