"""What is wrong with GPUs, and in which order all is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modulus.core.findings import LEVELS, Finding, blocking
from modulus.core.gpu.census import Census
from modulus.core.health.checks.libraries import InstalledLibrary
from modulus.core.health.checks.numa import has_several_nodes
from modulus.core.health.verify import findings
from modulus.core.profile.libraries import Answer, Library, Reply
from tests.support.healthy import (
    ADDRESSES,
    FOLDER,
    ML,
    answered,
    broken,
    gpu,
    installed,
    loaded,
    wanted,
)

UNDRIVEN = Census(True, (gpu(ADDRESSES[0]), replace(gpu(ADDRESSES[1]), driver=None)))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, [("gpu-unbound", "warning")]),
        ({"require_all_gpus": True}, [("gpu-unbound", "error")]),
        # Then that is what is wrong.
        ({"devices": (), "asked": ()}, []),
    ],
)
def test_a_gpu_that_the_driver_did_not_take(
    facts: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    found = findings(broken(census=UNDRIVEN, **{"devices": ADDRESSES[:1], **facts}))
    assert [(one.id, one.severity) for one in found] == expected
    assert all("GPU 0000:00:06.0 0001:0002 has no driver" in one.message for one in found)


@pytest.mark.parametrize(
    ("ready_when", "severities"),
    [
        ("loaded", ["error", "warning", "warning"]),
        ("nodes", ["error", "error", "warning"]),
        ("usable", ["error", "error", "error"]),
    ],
)
def test_what_does_not_count_is_a_warning(ready_when: str, severities: list[str]) -> None:
    others = tuple(Finding(level, level, "error", "", "", "") for level in LEVELS)
    found = findings(broken(others=others, ready_when=ready_when))
    assert [one.level for one in found] == list(LEVELS)
    assert [one.severity for one in found] == severities
    assert len(blocking(found, ready_when)) == severities.count("error")


def test_no_gpu_that_works() -> None:
    found = findings(broken(**answered(15, 9)))
    assert [(one.id, one.severity) for one in found] == [
        ("no-gpu-usable", "error"),
        ("gpu-dead", "warning"),
        ("gpu-dead", "warning"),
    ]
    assert "0000:00:05.0, 0000:00:06.0" in found[0].cause
    assert [one.id for one in blocking(found, "usable")] == ["no-gpu-usable"]
    assert not blocking(found, "nodes")


@pytest.mark.parametrize(
    "facts",
    [
        installed(label="system_u:object_r:lib_t:s0"),
        installed(label="no context"),
        installed(file="libd.so"),
        {"libraries": (InstalledLibrary(Library("liba.so"), "x", f"{FOLDER}/liba.so"),)},
        {"loaded": {"driver_core": loaded("driver_core", None)}, "wanted": {}},
        {"wanted": {"driver_core": wanted("driver-core", None, None)}},
        {"mount": None},
        {"asked": ((replace(ML, device=None), None),)},
        {"asked": ((replace(ML, device=None), Answer("l", (Reply("dInit", 0),))),)},
        {"census": Census(True, (gpu(ADDRESSES[0], None),))},
    ],
)
def test_what_is_no_finding(facts: dict[str, Any]) -> None:
    assert findings(broken(**facts)) == ()


def test_findings_come_by_level_and_severity() -> None:
    others = tuple(
        Finding(f"{level}-{severity}", level, severity, "", "", "")
        for level in ("usable", "loaded", "nodes")
        for severity in ("info", "error", "warning")
    )
    observed = broken(others=others, loaded={})
    in_order = [one.id for one in findings(observed)]
    assert in_order[:4] == ["loaded-error", "module-missing", "loaded-warning", "loaded-info"]
    assert in_order[4:7] == ["nodes-error", "nodes-warning", "nodes-info"]
    assert in_order[7:] == ["usable-error", "usable-warning", "usable-info"]
    assert [one.id for one in findings(observed, "nodes")] == in_order[:7]
    assert [one.id for one in findings(observed, "loaded")] == in_order[:4]


@pytest.mark.parametrize(
    ("online", "several"),
    [("0\n", False), ("", False), ("0-1\n", True), ("0,2", True), ("12", False)],
)
def test_numa_nodes(online: str, several: bool) -> None:
    assert has_several_nodes(online) == several
