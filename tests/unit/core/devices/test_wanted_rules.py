# ruff: noqa: E501
"""The grammar of a profile's rules for device nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from modulus.core.config.schema_types import Problems
from modulus.core.profile.schema import parse_profile
from tests.unit.core.devices.conftest import CAPS, CHANNEL, GPU, SWITCH, TOOLS, parse, rules


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
