# ruff: noqa: E501
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modulus.core.config.schema_types import Problems
from modulus.core.profile.libraries import SCHEMA, Library, Status, check_fit
from modulus.host.config.load import load_profile

DEAD = {"status": 15, "cause": "it is gone", "fix": "reset it"}
FULL: dict[str, Any] = {
    "name": "libdrv-ml.so.1",
    "version_of": "drv",
    "init": "drvInit",
    "arguments": [0],
    "device": "drvDevice",
    "text": "drvText",
    "severity": "warning",
    "statuses": [DEAD],
}


def parse(*values: object, devices: bool = True) -> tuple[tuple[Library, ...], list[str]]:
    lines: list[str] = []
    problems = Problems("", lines)
    libraries = SCHEMA.check(list(values), "libraries", problems)
    if not lines:
        check_fit(libraries, ("drv",), devices, problems)
    return libraries, lines


def test_all_that_may_be_said() -> None:
    libraries, lines = parse(FULL, {"name": "libd.so"})
    assert not lines
    status = Status(15, "it is gone", "reset it", "error")
    assert libraries == (
        Library(
            "libdrv-ml.so.1",
            "drv",
            "drvInit",
            (0,),
            "drvDevice",
            "drvText",
            "warning",
            (status,),
        ),
        Library("libd.so"),
    )
    assert libraries[0].meaning(15) == status
    assert libraries[0].meaning(16) is None


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in FULL.items() if key not in keys}


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({}, "libraries[0].name: is missing"),
        ({"name": "lib/x.so"}, "libraries[0].name: must be a soname, such as liba.so.1, not 'lib/x.so'"),
        ({"name": "libx.a"}, "libraries[0].name: must be a soname, such as liba.so.1, not 'libx.a'"),
        (FULL | {"init": "a b"}, "libraries[0].init: must be the name of a C function, not 'a b'"),
        (FULL | {"arguments": [-1]}, "libraries[0].arguments[0]: must be a number of 32 bits, not -1"),
        (FULL | {"severity": "bad"}, "libraries[0].severity: must be one of error, warning, info, not 'bad'"),
        (FULL | {"statuses": [{"status": 1}]}, "libraries[0].statuses[0].cause: is missing"),
        (FULL | {"version_of": "other"}, "libraries[0].version_of: other is not among the modules to build"),
        (without("init", "device", "text", "statuses"), "libraries[0].arguments: needs init, which is called first"),
        (without("init", "arguments", "text", "statuses"), "libraries[0].device: needs init, which is called first"),
        (without("init", "arguments", "device", "statuses"), "libraries[0].text: needs init, which is called first"),
        (without("init", "arguments", "device", "text"), "libraries[0].statuses: needs init, which is called first"),
    ],
)  # fmt: skip
def test_problems(value: dict[str, Any], line: str) -> None:
    _, lines = parse(value)
    assert line in lines


def test_devices_are_those_of_pci() -> None:
    assert parse(FULL, devices=False)[1] == [
        "libraries[0].device: needs pci, which says what devices there are"
    ]


@pytest.mark.parametrize(
    ("file", "version"),
    [
        ("libdrv-ml.so.535.309.01", "535.309.01"),
        ("libdrv-ml.so.1", "1"),
        ("libdrv-ml.so.", None),
        ("libdrv-ml.so", None),
        ("libother.so.535.309.01", None),
    ],
)
def test_a_file_may_name_its_version(file: str, version: str | None) -> None:
    assert Library("libdrv-ml.so.1").file_version(file) == version


def test_what_ships_for_gpus() -> None:
    """Only the library that knows the GPUs can keep a driver from being ready over them."""
    ml, cuda = load_profile(Path("/nonexistent"), "nvidia").libraries
    assert (ml.name, ml.severity) == ("libnvidia-ml.so.1", "error")
    assert ml.device
    assert (cuda.name, cuda.severity, cuda.device) == ("libcuda.so.1", "warning", None)
    for status in (100, 802):
        known = cuda.meaning(status)
        assert known
        assert known.severity == "warning"
