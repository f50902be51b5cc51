"""Reads the dynamic linker's cache, ``/etc/ld.so.cache``: the files of library names.

Sources: glibc's ``sysdeps/generic/dl-cache.h`` (``struct cache_file_new``,
``struct file_entry_new``, the flags), ``elf/dl-cache.c`` and ``elf/cache.c``. Since glibc
2.32 there is only the new format; before, the old one stands in front of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

_OLD, _NEW = b"ld.so-1.7.0\0", b"glibc-ld.so.cache1.1"
_OLD_COUNT = struct.Struct("<12xI")
_OLD_ENTRY = 12
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_ALIGNMENT = 8
_BIG_ENDIAN = 3

FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}
"""The flags of a library by ``uname -m``: FLAG_ELF_LIBC6 and the machine's 64-bit flag."""


@dataclass(frozen=True)
class CacheEntry:
    """One library: its name, its file, the flags of its machine (``FLAGS``).

    ``hwcap`` is not 0 where only some processors use it.
    """

    name: str
    path: str
    flags: int
    hwcap: int = 0


def parse_ldcache(data: bytes) -> tuple[CacheEntry, ...]:
    """What is in the cache, in its order; ValueError for damage or another format."""
    start = 0
    if data.startswith(_OLD):
        if len(data) < _OLD_COUNT.size:
            raise ValueError("the cache is cut short")
        end = _OLD_COUNT.size + _OLD_ENTRY * _OLD_COUNT.unpack_from(data)[0]
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
    # Offsets count from here.
    body = data[start:]
    if not body.startswith(_NEW):
        raise ValueError("not a cache of the dynamic linker in a known format")
    if len(body) < _HEADER.size:
        raise ValueError("the cache is cut short")
    _, count, _, endianness, _ = _HEADER.unpack_from(body)
    if endianness == _BIG_ENDIAN:
        raise ValueError("the cache of a big-endian machine")
    end = _HEADER.size + _ENTRY.size * count
    if end > len(body):
        raise ValueError("the cache is cut short")
    return tuple(
        CacheEntry(_text(body, name), _text(body, path), flags, hwcap)
        for flags, name, path, _, hwcap in _ENTRY.iter_unpack(body[_HEADER.size : end])
    )


def find_library(name: str, machine: str, entries: Iterable[CacheEntry]) -> str | None:
    """The file that any program of ``machine`` gets for ``name``, or None.

    The first of several counts. Libraries for only some processors are skipped: the choice
    depends on the processor, and no driver comes with such libraries.
    """
    flags = FLAGS.get(machine)
    return next(
        (
            entry.path
            for entry in entries
            if entry.name == name and entry.flags == flags and not entry.hwcap
        ),
        None,
    )


def _text(body: bytes, offset: int) -> str:
    end = body.find(b"\0", offset)
    if end < 0:
        raise ValueError("a name runs past the end of the cache")
    return body[offset:end].decode("utf-8", "replace")
