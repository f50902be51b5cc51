# ruff: noqa: E501
"""What the driver says of its nodes, and which are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.devices.proc_devices import CharDevices
from modulus.core.devices.wanted import DeviceNode, NodeFacts, Seen, number, wanted_nodes
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
