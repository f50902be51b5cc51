# ruff: noqa: E501
"""What is to change for the nodes that are wanted, and what is wrong in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from modulus.core.devices.changes import Change, compare, node_findings, plan_nodes, removable
from modulus.core.devices.proc_devices import CharDevices
from modulus.core.devices.wanted import NodeFacts, Seen
from tests.unit.core.devices.conftest import (
    CAPS,
    CHANNEL,
    GPU,
    INFO,
    PARAMS,
    SWITCH,
    TOOLS,
    facts,
    minors,
    node,
    rules,
    seen,
)


@pytest.mark.parametrize(
    ("there", "state", "what"),
    [
        ({"/dev/d/x": seen(9, 8)}, "right", ""),
        ({}, "missing", ""),
        ({"/dev/d/x": seen(7, 8)}, "stale", "major 7 instead of 9"),
        ({"/dev/d/x": seen(9, 7, 0o600)}, "stale", "minor 7 instead of 8, mode 0600 instead of 0666"),
        ({"/dev/d/x": seen(9, 8, 0o666, 0, 44)}, "stale", "owner 0:44 instead of 0:0"),
        ({"/dev/d/x": Seen("regular file")}, "foreign", "a regular file is there"),
        ({"/dev/d": Seen("symbolic link")}, "foreign", "/dev/d is a symbolic link"),
    ],
)  # fmt: skip
def test_compare(there: Mapping[str, Seen], state: str, what: str) -> None:
    wanted = node("/dev/d/x", 9, 8)
    change = Change("/dev/d/x", state, what, wanted)
    assert compare([wanted], there) == (change,)
    assert change.due == (state in ("missing", "stale"))
    assert not Change("/dev/d/x", state, what, replace(wanted, managed=False)).due


def planned(given: NodeFacts, *own: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
    changes = plan_nodes(rules(*own), given).changes
    return [(change.path, change.state, change.target) for change in changes]


def test_nothing_is_wanted_of_a_driver_without_nodes() -> None:
    assert planned(facts()) == []


@pytest.mark.parametrize(
    ("path", "there", "files", "gone"),
    [
        ("/dev/acme3", seen(195, 3), {INFO: minors(0)}, True),
        ("/dev/acme3", seen(195, 3), {INFO: ()}, True),
        ("/dev/acme3", seen(250, 3), {INFO: minors(0)}, True),  # nobody's major
        ("/dev/acme3", seen(241, 3), {INFO: minors(0)}, False),  # another driver's
        ("/dev/acme3", Seen("regular file"), {INFO: minors(0)}, False),
        ("/dev/acme03", seen(195, 3), {INFO: minors(0)}, False),
        ("/dev/acme-tools", seen(195, 3), {INFO: minors(0)}, False),
        # Where not all minors are known, none is known to be gone.
        ("/dev/acme3", seen(195, 3), {}, False),
        ("/dev/acme3", seen(195, 3), {INFO: (*minors(0), "")}, False),
        ("/dev/acme3", seen(195, 3), {INFO: minors(0), PARAMS: ("Modify: 0\n",)}, False),
    ],
)
def test_nodes_of_devices_that_are_gone(
    path: str, there: Seen, files: Mapping[str, tuple[str, ...]], gone: bool
) -> None:
    changes = planned(facts(files, {path: there}), GPU)
    assert ((path, "unwanted", None) in changes) == gone


def test_nothing_is_gone_while_the_module_is_not_loaded() -> None:
    given = facts({INFO: ()}, {"/dev/acme3": seen(195, 3)}, modules=())
    assert planned(given, GPU) == []


@pytest.mark.parametrize(
    ("links", "changes"),
    [
        ({}, [("242:1", "missing")]),
        ({"242:1": "../acme-tools"}, [("242:1", "right")]),
        ({"242:1": "../other"}, [("242:1", "stale")]),
        ({"242:1": "/dev/acme-tools"}, [("242:1", "stale")]),
        ({"242:1": None}, [("242:1", "foreign")]),
        ({"242:1": "../acme-tools", "99:1": "../acme-tools"}, [("242:1", "right"), ("99:1", "unwanted")]),
        ({"242:1": "../acme-tools", "99:1": "/dev/acme-tools"}, [("242:1", "right"), ("99:1", "unwanted")]),
        ({"242:1": "../acme-tools", "1:3": "../null", "9:9": None}, [("242:1", "right")]),
    ],
)  # fmt: skip
def test_links(links: Mapping[str, str | None], changes: list[tuple[str, str]]) -> None:
    found = planned(facts(seen={"/dev/acme-tools": seen(99, 1)}, links=links), TOOLS)
    wanted = [
        (f"/dev/char/{name}", state, None if state == "unwanted" else "../acme-tools")
        for name, state in changes
    ]
    assert found == [("/dev/acme-tools", "stale", None), *wanted]


def test_a_link_is_for_a_node_that_will_be_right() -> None:
    left = {INFO: minors(0, 1), PARAMS: ("Modify: 0\n",)}
    there = {"/dev/acme0": seen(195, 0), "/dev/acme1": seen(195, 9), "/dev/acme-tools": Seen("directory")}  # fmt: skip
    assert planned(facts(left, there), GPU, TOOLS)[3:] == [
        ("/dev/char/195:0", "missing", "../acme0")
    ]


def test_a_link_goes_with_its_node() -> None:
    given = facts({INFO: ()}, {"/dev/acme3": seen(195, 3)}, {"195:3": "../acme3"})
    assert planned(given, GPU) == [
        ("/dev/acme3", "unwanted", None),
        ("/dev/char/195:3", "unwanted", None),
    ]


def test_once_done_there_is_nothing_to_do() -> None:
    own = rules(GPU, CAPS, SWITCH, TOOLS, CHANNEL)
    files = {INFO: minors(0, 1), "caps/**/*": ("Minor: 5\nMode: 256\n",), "sw/*": ("",)}
    before = facts(
        files, {"/dev/ch/c1": seen(9, 1), "/dev/acme7": seen(195, 7)}, {"9:1": "../ch/c1"}
    )
    there: dict[str, Seen] = dict(before.seen)
    links: dict[str, str | None] = dict(before.links)
    for change in plan_nodes(own, before).changes:
        assert change.due
        name = change.path.rpartition("/")[2]
        if change.state == "unwanted":
            there.pop(change.path, None)
            links.pop(name, None)
        elif change.node:
            n = change.node
            there[n.path] = seen(n.major, n.minor, n.mode, n.uid, n.gid)
        else:
            links[name] = change.target
    after = plan_nodes(own, replace(before, seen=there, links=links))
    assert {change.state for change in after.changes} == {"right"}
    assert len(after.changes) == 2 * len(after.wanted) == 12
    assert node_findings(after.changes) == ()


@pytest.mark.parametrize(
    ("change", "name", "severity", "message", "fix"),
    [
        (Change("/dev/x", "missing", "", node("/dev/x", 9, 8)), "missing-node", "error", "/dev/x is missing", "run modulus up again"),
        (Change("/dev/x", "stale", "major 7 instead of 9", node("/dev/x", 9, 8)), "stale-node", "error", "/dev/x is wrong: major 7 instead of 9", "run modulus up again"),
        (Change("/dev/x", "foreign", "a directory is there", node("/dev/x", 9, 8)), "foreign-node", "error", "/dev/x cannot be made: a directory is there", "move it away, then run modulus up again"),
        (Change("/dev/x", "unwanted", "no device has 9:8"), "stale-node", "warning", "/dev/x is wrong: no device has 9:8", "run modulus up again"),
        (Change("/dev/x", "missing", "", replace(node("/dev/x", 9, 8, 0o640), managed=False)), "unmanaged-node", "warning", "/dev/x is missing", "make it as it should be (mknod -m 640 /dev/x c 9 8), or change the parameters"),
        (Change("/dev/char/9:8", "missing", target="../x"), "missing-link", "warning", "/dev/char/9:8 is missing", "run modulus up again"),
    ],
)  # fmt: skip
def test_findings(change: Change, name: str, severity: str, message: str, fix: str) -> None:
    (finding,) = node_findings([change])
    assert (finding.id, finding.level) == (name, "nodes")
    assert (finding.severity, finding.message, finding.fix) == (severity, message, fix)
    assert finding.cause


def test_what_goes_with_the_driver() -> None:
    now = facts(
        seen={
            "/dev/acme0": seen(195, 0), "/dev/acme-tools": seen(9, 9), "/dev/ch/c1": seen(243, 1),
            "/dev/acme-caps/cap1": Seen("regular file"),
        },
        links={"195:0": "../acme0", "9:9": "/dev/acme-tools", "7:7": "../acme5", "1:3": "../null", "243:1": "../ch/c1", "2:2": None},
        devices=CharDevices(), modules=(),
    )  # fmt: skip
    own = rules(GPU, CAPS, TOOLS, CHANNEL)
    assert removable(own, now, now) == (
        "/dev/acme0", "/dev/acme-tools", "/dev/char/195:0", "/dev/char/9:9", "/dev/char/7:7",
    )  # fmt: skip
    before = facts({PARAMS: ("Modify: 0\n",)})
    assert removable(own, now, before) == ("/dev/acme-tools", "/dev/char/9:9")
