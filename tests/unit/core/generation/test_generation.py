from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.generation.generation import (
    Contents,
    Identity,
    generation_name,
    key_of,
    manifest_value,
    module_path,
    parse_generation,
)
from modulus.core.instance import Instance
from modulus.core.kernel.identity import KernelId
from modulus.core.record.forms import is_inside
from modulus.core.tree import FileRecord, Link, Tree, parse_tree, tree_value

INSTANCE = Instance("driver", "535.309.01")
FILE = FileRecord("lib/modules/6.1.0-9-amd64/driver.ko", "ab" * 32, 12, 0o644)
IDENTITY = Identity(
    instance=INSTANCE,
    flavour="open",
    kernel=KernelId("6.1.0-9-amd64", "#1 SMP Debian 6.1.27-1", "c0ffee"),
    key="0123456789abcdef" * 4,
    components=("compute", "utility"),
)
CONTENTS = Contents(
    IDENTITY,
    userspace="fe" * 32,
    tree=Tree((FILE,), (Link("lib/libx.so.1", "libx.so.1.2"),)),
)


def test_a_name_says_version_kernel_and_key() -> None:
    name = generation_name(CONTENTS)
    assert name.startswith("535.309.01-6.1.0-9-amd64-0123456789ab-")
    assert name == generation_name(replace(CONTENTS))
    assert key_of(name) == IDENTITY.key[:12]


@pytest.mark.parametrize(
    "change",
    [
        {"flavour": "proprietary"},
        {"kernel": replace(IDENTITY.kernel, release="6.1.0-10-amd64")},
        {"kernel": replace(IDENTITY.kernel, version="#1 SMP Debian 6.1.28-1")},
        {"kernel": replace(IDENTITY.kernel, build_id=None)},
        {"key": "f" * 64},
        {"components": ("compute",)},
    ],
)
def test_another_purpose_has_another_name(change: dict[str, Any]) -> None:
    changed = replace(CONTENTS, identity=replace(IDENTITY, **change))
    assert generation_name(changed) != generation_name(CONTENTS)


@pytest.mark.parametrize(
    "change",
    [
        {"userspace": None},
        {"tree": Tree((replace(FILE, sha256="cd" * 32),), CONTENTS.tree.links)},
        {"tree": Tree((FILE,))},
    ],
)
def test_other_contents_have_another_name(change: dict[str, Any]) -> None:
    assert generation_name(replace(CONTENTS, **change)) != generation_name(CONTENTS)


def test_a_manifest_is_read_back() -> None:
    value = manifest_value(CONTENTS, "2024-01-02T03:04:05+00:00")
    assert parse_generation(value) == CONTENTS
    assert value["files"] == [
        {
            "path": module_path(CONTENTS.release, "driver.ko"),
            "sha256": "ab" * 32,
            "size": 12,
            "mode": "0644",
        }
    ]
    assert value["created"] == "2024-01-02T03:04:05+00:00"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 1},
        {"components": None},
        {"instance": "../driver-1"},
        {"key": None},
        {"files": None},
        {"files": ["lib/x"]},
        {"key": "../" * 21 + "x"},
        {"flavour": "a/b"},
        {"kernel": "6.1/../.."},
        {"build_id": "\0"},
        {"components": ["../x"]},
        {"userspace": "../../etc"},
        {"links": [{"path": "x", "target": "a\0b"}]},
        {"files": [{"path": "../x", "sha256": "ab" * 32, "size": 0, "mode": "0644"}]},
        {"files": [{"path": "x", "sha256": "ab" * 32, "size": 0, "mode": "rwx"}]},
        {"files": [{"path": "x", "sha256": "ab" * 32, "size": None, "mode": "0644"}]},
        {"links": [{"path": "/etc/passwd", "target": "x"}]},
    ],
)
def test_what_is_no_manifest_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        parse_generation({**manifest_value(CONTENTS, "now"), **change})


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        parse_generation(value)


_PATHS = st.text(min_size=1, max_size=20).filter(is_inside)
_DIGESTS, _SIZES = st.from_regex("[0-9a-f]{64}", fullmatch=True), st.integers(0, 1 << 53)


@given(
    st.lists(st.builds(FileRecord, _PATHS, _DIGESTS, _SIZES, st.integers(0, 0o777))),
    st.lists(st.builds(Link, _PATHS, _PATHS)),
)
def test_any_tree_survives_json(files: list[FileRecord], links: list[Link]) -> None:
    tree = Tree(tuple(files), tuple(links))
    assert parse_tree(tree_value(tree)) == tree


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.so"]), min_size=1).map("/".join))
def test_inside_means_that_no_part_leads_elsewhere(path: str) -> None:
    assert is_inside(path) == (not {"..", ".", ""} & set(path.split("/")))
