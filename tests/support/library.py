"""A shared library in a few hundred bytes, with a soname and little else."""

from __future__ import annotations

import platform
import struct
from collections.abc import Sequence

_MACHINES = {"x86_64": 62, "aarch64": 183}
_BASE = 0x10000
_HEADERS = 64 + 2 * 56


def shared_library(
    soname: str | None,
    padding: int = 0,
    *,
    needs: Sequence[str] = (),
    runpath: str = "",
    machine: str = "",
) -> bytes:
    """An ELF file that ldconfig(8) of this machine takes for a library of that ``soname``.

    It ``needs`` other libraries, and is for another ``machine`` if that is named."""
    strings = b"\0" + (soname or "").encode() + b"\0"
    tags = [(14, 1)] if soname else []
    for tag, text in (*((1, name) for name in needs), *([(29, runpath)] if runpath else [])):
        tags.append((tag, len(strings)))
        strings += text.encode() + b"\0"
    size = 16 * (len(tags) + 3)
    table = _HEADERS + size
    tags += [(5, _BASE + table), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    total = table + len(strings) + padding
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1",
        *(3, _MACHINES[machine or platform.machine()], 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0),
    )
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, _BASE, _BASE, total, total, 0x1000)
    at = _BASE + _HEADERS
    segment = struct.pack("<IIQQQQQQ", 2, 4, _HEADERS, at, at, size, size, 8)
    return header + load + segment + dynamic + strings + bytes(padding)
