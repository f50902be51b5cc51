"""Reads a shared library's DT_SONAME: the name by which programs ask for it.

Sources: the System V gABI, chapter 5 ("Dynamic Section"); elf(5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from modulus.core.kernel.elf import Data

_IDENT = b"\x7fELF\x02\x01"  # 64-bit, little-endian
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_LOAD, _DYNAMIC = 1, 2
_NULL, _STRTAB, _STRSZ, _SONAME = 0, 5, 10, 14


def soname(data: Data) -> str | None:
    """The soname in ``data``; None where it has none or is no 64-bit ELF file.

    Raises ValueError where the file is cut short or damaged.
    """
    if data[: len(_IDENT)] != _IDENT:
        return None
    header = _HEADER.unpack(_slice(data, 0, _HEADER.size))
    offset, size, count = header[5], header[9], header[10]
    if count and size != _SEGMENT.size:
        raise ValueError("damaged program headers")
    segments = list(_SEGMENT.iter_unpack(_slice(data, offset, size * count)))
    for kind, _, start, _, _, length, _, _ in segments:
        if kind == _DYNAMIC:
            tags = dict(_tags(_slice(data, start, length - length % _ENTRY.size)))
            if _SONAME not in tags:
                return None
            if _STRTAB not in tags or _STRSZ not in tags:
                raise ValueError("a dynamic section without strings")
            strings = _slice(data, _offset(segments, tags[_STRTAB]), tags[_STRSZ])
            name, end, _ = strings[tags[_SONAME] :].partition(b"\0")
            if not end:
                raise ValueError("the soname runs past its string table")
            return name.decode("utf-8", "replace")
    return None


def _tags(section: bytes) -> Iterator[tuple[int, int]]:
    for tag, value in _ENTRY.iter_unpack(section):
        if tag == _NULL:
            return
        yield tag, value


def _offset(segments: list[tuple[int, ...]], address: int) -> int:
    """The offset in the file from which the memory ``address`` is loaded."""
    for kind, _, offset, start, _, size, _, _ in segments:
        if kind == _LOAD and start <= address < start + size:
            return offset + address - start
    raise ValueError(f"address {address:#x} is in no segment")


def _slice(data: Data, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise ValueError("the file is cut short")
    return data[offset : offset + size]
