from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.kernel.identity import parse_build_id


def note(name: bytes, kind: int, value: bytes) -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    return struct.pack("<III", len(name), len(value), kind) + padded(name) + padded(value)


XEN = note(b"Xen\0", 6, b"linux")
ID = note(b"GNU\0", 3, bytes.fromhex("8a94def0" * 5))


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        (ID, "8a94def0" * 5),
        (XEN + ID, "8a94def0" * 5),
        (note(b"Linux\0", 0, b"\0") + XEN + ID, "8a94def0" * 5),
        (XEN, None),
        (note(b"GNU\0", 1, b"abcd"), None),
        (note(b"GNU\0", 3, b""), None),
        (b"", None),
        (ID[:8], None),
    ],
)
def test_the_build_id_is_among_the_notes(notes: bytes, expected: str | None) -> None:
    assert parse_build_id(notes) == expected


def test_this_kernels_own_notes() -> None:
    try:
        notes = Path("/sys/kernel/notes").read_bytes()
    except OSError as error:
        pytest.skip(f"this kernel shows no notes: {error}")
    if b"GNU\0" not in notes:
        pytest.skip("this kernel was linked without a build id")
    assert len(parse_build_id(notes) or "") == 40


@given(st.binary())
def test_anything_is_read(notes: bytes) -> None:
    parse_build_id(notes)
