from __future__ import annotations

import platform
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.generation.ldcache import FLAGS, CacheEntry, find_library, parse_ldcache
from tests.support.library import shared_library

MACHINE = platform.machine()
OURS = FLAGS[MACHINE]


def cache(*entries: CacheEntry, endianness: int = 2) -> bytes:
    """A cache of the new format."""
    start = 48 + 24 * len(entries)
    strings, packed = b"", b""
    for entry in entries:
        offsets = []
        for text in (entry.name, entry.path):
            offsets.append(start + len(strings))
            strings += text.encode() + b"\0"
        packed += struct.pack("<iIIIQ", entry.flags, *offsets, 0, entry.hwcap)
    header = struct.pack(
        "<20sIIB3xI12x", b"glibc-ld.so.cache1.1", len(entries), len(strings), endianness, 0
    )
    return header + packed + strings


def ldconfig(*arguments: str) -> str:
    done = subprocess.run(["ldconfig", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


A = CacheEntry("liba.so.1", "/x/liba.so.1", OURS)
B = CacheEntry("libb.so.2", "/y/libb.so.2", OURS)


def test_what_is_in_it_comes_in_order() -> None:
    assert parse_ldcache(cache(B, A)) == (B, A)
    assert parse_ldcache(cache()) == ()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_old_format_may_stand_in_front(count: int) -> None:
    # Its entries have 12 bytes; the new part begins at a multiple of 8.
    old = struct.pack("<12sI", b"ld.so-1.7.0\0", count) + bytes(12 * count)
    old += bytes(-len(old) % 8)
    assert parse_ldcache(old + cache(A)) == (A,)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "known format"),
        (b"\x7fELF" + bytes(100), "known format"),
        (b"ld.so-1.7.0\0\1", "cut short"),
        (struct.pack("<12sI", b"ld.so-1.7.0\0", 9), "known format"),
        (cache(A)[:30], "cut short"),
        (cache(A)[:60], "cut short"),
        (cache(A)[:-1], "past the end"),
        (cache(A, endianness=3), "big-endian"),
    ],
)
def test_what_is_damaged_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_ldcache(data)


@given(st.integers(0, 200), st.binary(max_size=8))
def test_no_damage_does_harm(position: int, noise: bytes) -> None:
    data = bytearray(cache(A, B))
    data[position : position + len(noise)] = noise
    try:
        entries = parse_ldcache(bytes(data))
    except ValueError:
        return
    assert all("\0" not in entry.name + entry.path for entry in entries)


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ((), None),
        ((B,), None),
        ((A,), "/x/liba.so.1"),
        ((CacheEntry("liba.so.1", "/first", OURS), A), "/first"),
        ((CacheEntry("liba.so.1", "/i386", 0x0003), A), "/x/liba.so.1"),
        ((CacheEntry("liba.so.1", "/v4", OURS, 1 << 62), A), "/x/liba.so.1"),
    ],
)
def test_which_file_a_name_gives(entries: tuple[CacheEntry, ...], found: str | None) -> None:
    assert find_library("liba.so.1", MACHINE, entries) == found


def test_a_machine_may_be_unknown() -> None:
    assert find_library("liba.so.1", "z80", (A,)) is None


def test_the_real_cache_is_read_as_ldconfig_reads_it() -> None:
    entries = parse_ldcache(Path("/etc/ld.so.cache").read_bytes())
    lines = re.findall(r"^\t(\S+) \(.*\) => (\S+)$", ldconfig("-p"), re.M)
    assert [(entry.name, entry.path) for entry in entries] == lines
    assert find_library("libc.so.6", MACHINE, entries)


@pytest.mark.parametrize("format_", ["new", "compat"])
def test_ldconfigs_own_order_decides(tmp_path: Path, format_: str) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "libd.so.1.0").write_bytes(shared_library("libd.so.1"))
    (tmp_path / "etc").mkdir()
    found = []
    for conf in ("/one\n/two\n", "/two\n/one\n"):
        (tmp_path / "etc/ld.so.conf").write_text(conf)
        ldconfig("-r", str(tmp_path), "-c", format_)
        data = (tmp_path / "etc/ld.so.cache").read_bytes()
        found.append(find_library("libd.so.1", MACHINE, parse_ldcache(data)))
    assert found == ["/one/libd.so.1", "/two/libd.so.1"]
