"""Reads a shared library's DT_SONAME, the name by which programs ask for it, and what a program
asks for.

Sources: the System V gABI, chapter 5 ("Dynamic Section"); elf(5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from modulus.core.kernel.elf import MACHINES, Data

_IDENT = b"\x7fELF\x02\x01"  # 64-bit, little-endian
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_LOAD, _DYNAMIC = 1, 2
_NULL, _NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 0, 1, 5, 10, 14, 15, 29


@dataclass(frozen=True)
class Program:
    """What a program asks of the dynamic linker: the sonames it needs, and whether it says
    itself where some are. ``machine`` is as ``uname -m`` names it."""

    machine: str
    needed: tuple[str, ...]
    has_path: bool


def soname(data: Data) -> str | None:
    """The soname in ``data``; None where it has none or is no 64-bit ELF file.

    Raises ValueError where the file is cut short or damaged.
    """
    if data[: len(_IDENT)] != _IDENT:
        return None
    return next(iter(_names(data, _SONAME)), None)


def program(data: Data) -> Program | None:
    """The program in ``data``; None where it is no 64-bit ELF file, such as a script.

    Raises ValueError where the file is cut short or damaged.
    """
    if data[: len(_IDENT)] != _IDENT:
        return None
    machine = _HEADER.unpack(_slice(data, 0, _HEADER.size))[2]
    return Program(
        MACHINES.get(machine, f"machine {machine}"),
        _names(data, _NEEDED),
        bool(_names(data, _RPATH) or _names(data, _RUNPATH)),
    )


def _names(data: Data, wanted: int) -> tuple[str, ...]:
    """The strings of a tag in the dynamic section; none without such a section."""
    header = _HEADER.unpack(_slice(data, 0, _HEADER.size))
    offset, size, count = header[5], header[9], header[10]
    if count and size != _SEGMENT.size:
        raise ValueError("damaged program headers")
    segments = list(_SEGMENT.iter_unpack(_slice(data, offset, size * count)))
    for kind, _, start, _, _, length, _, _ in segments:
        if kind == _DYNAMIC:
            tags = list(_tags(_slice(data, start, length - length % _ENTRY.size)))
            values = [value for tag, value in tags if tag == wanted]
            if not values:
                return ()
            places = dict(tags)
            if _STRTAB not in places or _STRSZ not in places:
                raise ValueError("a dynamic section without strings")
            strings = _slice(data, _offset(segments, places[_STRTAB]), places[_STRSZ])
            return tuple(_string(strings, value) for value in values)
    return ()


def _string(strings: bytes, at: int) -> str:
    name, end, _ = strings[at:].partition(b"\0")
    if not end:
        raise ValueError("the soname runs past its string table")
    return name.decode("utf-8", "replace")


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
