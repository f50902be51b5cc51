# ruff: noqa: E501
"""Rules of a driver's device nodes, and what a node may show of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modulus.core.config.schema_types import ListOf, Problems
from modulus.core.devices.proc_devices import CharDevices
from modulus.core.devices.wanted import DeviceNode, NodeFacts, NodeRule, Seen
from modulus.core.profile.devices import NODE, check_nodes

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
