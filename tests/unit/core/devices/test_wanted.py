# ruff: noqa: E501
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.config.schema import ListOf, Problems
from modulus.core.devices.changes import (
    Change,
    compare,
    node_findings,
    plan_nodes,
    removable,
)
from modulus.core.devices.numbers import CharDevices
from modulus.core.devices.wanted import (
    DeviceNode,
    NodeFacts,
    NodeRule,
    Seen,
    number,
    wanted_nodes,
)
from modulus.core.profile.devices import NODE, check_nodes
from modulus.core.profile.schema import parse_profile

GPU = {
    "path": "acme{minor}", "major": ["acme", "acme-old"], "default_major": 195, "module": "acme-core",
    "minors": {"files": "driver/acme/*/info", "field": "Device Minor"},
    "params": {"file": "driver/acme/params", "uid": "UID", "gid": "GID", "mode": "Mode", "modify": "Modify"},
}  # fmt: skip
CAPS = {
    "path": "acme-caps/cap{minor}", "major": "acme-caps",
    "minors": {"files": ["caps/**/*"], "field": "Minor"}, "params": {"mode": "Mode", "modify": "Modify"},
}  # fmt: skip
SWITCH = {"path": "sw{minor}", "major": "sw", "minors": {"files": "sw/*"}, "mode": 0o600}
TOOLS = {"path": "acme-tools", "major": "tools", "minor": 1}
CHANNEL = {"path": "ch/c{minor}", "major": "ch"}

DEVICES = CharDevices(
    (("acme", 195), ("acme-caps", 240), ("sw", 241), ("tools", 242), ("ch", 243))
)
INFO, PARAMS = "driver/acme/*/info", "driver/acme/params"


def parse(*rules: Mapping[str, Any]) -> tuple[tuple[NodeRule, ...], list[str]]:
    lines: list[str] = []
    problems = Problems("", lines)
    found = ListOf(NODE).check([dict(rule) for rule in rules], "nodes", problems)
    if not lines:
        check_nodes(found, problems)
    return found, lines


def rules(*given: Mapping[str, Any]) -> tuple[NodeRule, ...]:
    found, lines = parse(*given)
    assert not lines
    return found


def facts(
    files: Mapping[str, tuple[str, ...]] | None = None,
    seen: Mapping[str, Seen] | None = None,
    links: Mapping[str, str | None] | None = None,
    devices: CharDevices = DEVICES,
    modules: tuple[str, ...] = ("acme_core",),
) -> NodeFacts:
    return NodeFacts(devices, frozenset(modules), files or {}, seen or {}, links or {})


def minors(*numbers: int) -> tuple[str, ...]:
    return tuple(f"Model: \t\t X\nDevice Minor: \t {n}\nOther: 7\n" for n in numbers)


def node(
    path: str, major: int, minor: int, mode: int = 0o666, uid: int = 0, gid: int = 0
) -> DeviceNode:
    return DeviceNode(path, major, minor, mode, uid, gid)


def seen(major: int, minor: int, mode: int = 0o666, uid: int = 0, gid: int = 0) -> Seen:
    return Seen("", major, minor, mode, uid, gid)


# The grammar.


@pytest.mark.parametrize("rule", [GPU, CAPS, SWITCH, TOOLS, CHANNEL])
def test_a_good_rule(rule: Mapping[str, Any]) -> None:
    assert len(rules(rule)) == 1


PATH = (
    "must be a name below /dev, or one in a folder there that is not char; {minor} may be in it"
)
PROC = "must be a pattern of files below /proc"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        *(({"path": path}, f"nodes[0].path: {PATH}, not {path!r}") for path in (
            "../x", "a/../x", "/dev/x", "/x", "a/b/c", ".x", "a/.x", "", "a/", "char/1:3", "x{name}", "{minor}{minor}", "a{minor}/x", "x\n", "a b",
        )),
        *(({"path": "x{minor}", "minor": None, "minors": {"files": path}}, f"nodes[0].minors.files[0]: {PROC}, not {path!r}") for path in (
            "/proc/x", "../x", "a/../b", "a//b", "", "a/", "a/**b", "a/./b", "..",
        )),
        ({"params": {"file": "a/*"}}, "nodes[0].params.file: must be the path of a file below /proc, without a pattern, not 'a/*'"),
        ({"major": []}, "nodes[0].major: must not be empty"),
        ({"major": "a b"}, "nodes[0].major[0]: must be a name of /proc/devices, not 'a b'"),
        ({"default_major": 512, "module": "m"}, "nodes[0].default_major: must be a number from 1 to 511, not 512"),
        ({"default_major": 195}, "nodes[0].default_major: needs module, which must be loaded for it"),
        ({"minor": 1 << 20}, "nodes[0].minor: must be a number up to 1048575, not 1048576"),
        ({"mode": 0o1777}, "nodes[0].mode: must be a mode from 0 to 0777, not 1023"),
        ({"minor": None}, "nodes[0]: needs a minor, or else {minor} in its path, and not both"),
        ({"path": "x{minor}"}, "nodes[0]: needs a minor, or else {minor} in its path, and not both"),
        ({"minor": None, "minors": {"files": "x"}}, "nodes[0]: needs a minor, or else {minor} in its path, and not both"),
        ({"params": {"mode": "Mode"}}, "nodes[0].params: needs a file, since there is none of minors"),
        ({"when": {"file": "x"}}, "nodes[0].when.field: is missing"),
        ({"files": "x"}, "nodes[0].files: unknown key, did you mean nodes[0].minors.files?"),
    ],
)  # fmt: skip
def test_a_bad_rule(changes: Mapping[str, Any], line: str) -> None:
    rule = {key: value for key, value in {**TOOLS, **changes}.items() if value is not None}
    assert parse(rule)[1] == [line]


def test_rules_that_are_in_each_others_way() -> None:
    assert parse(TOOLS, TOOLS | {"minor": 2})[1] == [
        "nodes[1].path: acme-tools is another rule's too"
    ]
    assert parse(TOOLS, TOOLS | {"path": "acme-tools/x"})[1] == [
        "nodes[0].path: acme-tools is another rule's too"
    ]


def test_a_profile_is_held_to_it() -> None:
    lines: list[str] = []
    profile = {
        "name": "acme", "sources": [{"url": "apt:acme", "format": "tar"}], "flavours": {"open": {"dir": "x"}},
        "build": ["acme"], "load": ["acme"], "make": {"targets": "acme"}, "nodes": [TOOLS | {"default_major": 9}],
    }  # fmt: skip
    assert parse_profile(profile, "acme", Problems("", lines)) is None
    assert lines == ["nodes[0].default_major: needs module, which must be loaded for it"]


# What the driver says.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Mode: 438\n", 438),
        ("Mode: \t 7", 7),
        (" Mode : 7 ", 7),
        ("ModeX: 1\nXMode: 2\nMode: 3\nMode: 4\n", 3),
        ("Mode: 0x1b\n", None),
        ("Mode: -1\n", None),
        ("Mode: ²\n", None),
        ("Mode: 4294967296\n", None),
        ("Mode: 99999999999999\n", None),
        ('Mode: "1"\n', None),
        ("Mode 7\n", None),
        ("", None),
    ],
)
def test_numbers_are_decimal(text: str, value: int | None) -> None:
    assert number(text, "Mode") == value


@given(st.text(), st.text(min_size=1, max_size=5))
def test_any_text_has_a_number_or_none(text: str, name: str) -> None:
    found = number(text, name)
    assert found is None or 0 <= found < 1 << 32


# What is wanted.


@pytest.mark.parametrize(
    ("rule", "given", "nodes"),
    [
        (GPU, facts({INFO: minors(1, 0)}), [node("/dev/acme1", 195, 1), node("/dev/acme0", 195, 0)]),
        (GPU, facts({INFO: (*minors(3, 3), "no minor\n", *minors(1 << 20))}), [node("/dev/acme3", 195, 3)]),
        (GPU, facts({INFO: minors(0)}, modules=()), []),
        (GPU, facts({INFO: minors(0)}, devices=CharDevices((("acme-old", 9),))), [node("/dev/acme0", 9, 0)]),
        (GPU, facts({INFO: minors(0)}, devices=CharDevices((("acme-oldest", 9),))), [node("/dev/acme0", 195, 0)]),
        (GPU, facts({INFO: minors(0), PARAMS: ("UID: 7\nGID: 44\nMode: 432\nModify: 1\n",)}), [node("/dev/acme0", 195, 0, 0o660, 7, 44)]),
        # 4294967295 would tell chown(2) to change nothing; more bits than rwx are not for nodes.
        (GPU, facts({INFO: minors(0), PARAMS: ("UID: 4294967295\nMode: 2494\n",)}), [node("/dev/acme0", 195, 0, 0o676)]),
        (GPU, facts({INFO: minors(0), PARAMS: ("",)}), [node("/dev/acme0", 195, 0)]),
        (GPU, facts({}), []),
        (CAPS, facts({"caps/**/*": ("Minor: 4\nMode: 256\nModify: 1\n", "Minor: 1\nMode: 292\n")}), [node("/dev/acme-caps/cap4", 240, 4, 0o400), node("/dev/acme-caps/cap1", 240, 1, 0o444)]),
        (CAPS, facts({"caps/**/*": ("Minor: 4\n",)}, devices=CharDevices()), []),
        (SWITCH, facts({"sw/*": ("", "")}), [node("/dev/sw0", 241, 0, 0o600), node("/dev/sw1", 241, 1, 0o600)]),
        (TOOLS, facts(), [node("/dev/acme-tools", 242, 1)]),
        (TOOLS | {"when": {"file": "p", "field": "On"}}, facts({"p": ("On: 1\n",)}), [node("/dev/acme-tools", 242, 1)]),
        (TOOLS | {"when": {"file": "p", "field": "On"}}, facts({"p": ("On: 0\n",)}), []),
        (TOOLS | {"when": {"file": "p", "field": "On"}}, facts(), []),
        # What an administrator made keeps its owner and mode.
        (CHANNEL, facts(seen={"/dev/ch/c3": seen(99, 0, 0o600, 5, 6), "/dev/ch/c03": seen(243, 3), "/dev/ch/c4": Seen("directory")}), [node("/dev/ch/c3", 243, 3, 0o600, 5, 6)]),
        (CHANNEL, facts(), []),
    ],
)  # fmt: skip
def test_wanted_nodes(
    rule: Mapping[str, Any], given: NodeFacts, nodes: list[DeviceNode]
) -> None:
    assert list(wanted_nodes(rules(rule), given)) == nodes


@pytest.mark.parametrize(("modify", "managed"), [("1", True), ("0", False), ("2", False)])
def test_the_driver_may_want_its_nodes_left_alone(modify: str, managed: bool) -> None:
    given = facts({
        INFO: minors(0), PARAMS: (f"Modify: {modify}\n",),
        "caps/**/*": ("Minor: 1\nModify: 0\n", "Minor: 2\nModify: 1\n"),
    })  # fmt: skip
    found = {node.path: node.managed for node in wanted_nodes(rules(GPU, CAPS, TOOLS), given)}
    assert found == {
        "/dev/acme0": managed, "/dev/acme-caps/cap1": False, "/dev/acme-caps/cap2": True, "/dev/acme-tools": True,
    }  # fmt: skip


def test_no_two_nodes_have_one_path_or_number() -> None:
    control = {"path": "acmectl", "major": "acme", "minor": 255}
    given = facts({INFO: minors(0, 255)})
    assert [node.path for node in wanted_nodes(rules(control, GPU), given)] == [
        "/dev/acmectl",
        "/dev/acme0",
    ]


# What is to change.


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


# What is wrong, in words.


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
