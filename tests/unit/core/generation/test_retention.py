"""Which generations stay: by what is written down, and by what processes say."""

from __future__ import annotations

from typing import Any

import pytest

from modulus.core.generation.retention import Found, Records, mentioned, reasons
from modulus.core.instance import Instance

ONE, TWO = Instance("gpu", "1.0"), Instance("gpu", "2.0")
OLD = "1.0-6.1.0-9-amd64-0123456789ab-01234567"
NEW = "2.0-6.1.0-9-amd64-ba9876543210-76543210"
THIRD = "1.0-6.1.0-8-amd64-0123456789ab-89abcdef"
FOUND = (
    Found(OLD, ONE, "6.1.0-9-amd64"),
    Found(NEW, TWO, "6.1.0-9-amd64"),
    Found(THIRD, ONE, "6.1.0-8-amd64"),
)


@pytest.mark.parametrize(
    ("records", "kept"),
    [
        ({}, {}),
        ({"active": NEW, "selected": TWO}, {NEW: "active"}),
        # A switch is pending: what it will need is there, whatever kernel is booted.
        (
            {"active": NEW, "selected": ONE},
            {NEW: "active", OLD: "selected", THIRD: "selected"},
        ),
        ({"selected": TWO}, {NEW: "selected"}),
        ({"active": "gone", "selected": TWO}, {NEW: "selected"}),
        (
            {
                "active": NEW,
                "selected": TWO,
                "good": [NEW, OLD, THIRD],
                "kernels": {"6.1.0-9-amd64"},
            },
            {NEW: "active", OLD: "good"},
        ),
        # The newest stays without its kernel, which may come back.
        (
            {"active": NEW, "selected": TWO, "good": [THIRD, OLD]},
            {NEW: "active", THIRD: "good"},
        ),
        (
            {"active": NEW, "selected": TWO, "used": [OLD]},
            {NEW: "active", OLD: "used since the boot"},
        ),
        (
            {
                "active": NEW,
                "selected": TWO,
                "firmware": f"/opt/drivers/.gpu/{OLD}/firmware",
            },
            {NEW: "active", OLD: "firmware"},
        ),
        (
            {"active": NEW, "selected": TWO, "firmware": f"/opt/drivers/.gpu/{OLD}.2/firmware"},
            {NEW: "active"},
        ),
    ],
)
def test_what_is_written_down_of_a_generation_keeps_it(
    records: dict[str, Any], kept: dict[str, str]
) -> None:
    assert reasons(FOUND, Records(**records)) == kept


def test_a_generation_without_a_manifest_stays_only_by_its_name() -> None:
    found = [Found(OLD, None, None), Found(NEW, None, None)]
    assert reasons(found, Records(active=OLD, selected=ONE)) == {OLD: "active"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"7f0-7f1 r-xp 0 fd:01 9 /opt/drivers/.gpu/{OLD}/lib/libgpu.so.1\n", {OLD}),
        (f"7f0-7f1 r-xp 0 fd:01 9 /host/.gpu/{OLD}/lib/libgpu.so.1 (deleted)\n", {OLD}),
        (f"36 35 98:0 /opt/drivers/.gpu/{OLD} /mnt ro - ext4 /dev/sda ro\n", {OLD}),
        (f"36 35 98:0 /@/.gpu/{OLD}/lib/a.so /usr/lib/a.so ro - btrfs /dev/sda ro\n", {OLD}),
        (f"36 35 98:0 /{OLD}//deleted /mnt ro - ext4 /dev/sda ro\n", {OLD}),
        (f"36 35 0:9 / /mnt ro - overlay o lowerdir=/a:/.gpu/{OLD}:/b,upperdir=/c\n", {OLD}),
        (f"36 35 98:0 /opt/drivers/.gpu/{OLD}.2 /mnt ro - ext4 /dev/sda ro\n", set()),
        (f"36 35 98:0 /opt/x{OLD}/lib /mnt ro - ext4 /dev/sda ro\n", set()),
        (f"36 35 98:0 /x/{NEW} /{OLD} ro - ext4 /dev/sda ro\n", {OLD, NEW}),
        ("36 35 98:0 / /opt/drivers ro - ext4 /dev/sda ro\n", set()),
    ],
    ids=["maps", "deleted file", "bind", "file of one", "deleted", "overlay", "another",
         "part of a name", "two", "parent"],
)  # fmt: skip
def test_a_path_anywhere_names_a_generation(text: str, found: set[str]) -> None:
    assert mentioned(text, [OLD, NEW]) == found
