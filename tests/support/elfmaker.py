"""Makes small kernel modules by hand: ELF with the sections the module loader reads."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

X86_64 = 62
AARCH64 = 183

_ABSOLUTE = 0xFFF1


def kernel_module(
    *,
    machine: int = X86_64,
    modinfo: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    undefined: Iterable[str] = (),
    weak: Iterable[str] = (),
    versions: Mapping[str, int] | None = None,
    extended_versions: Mapping[str, int] | None = None,
    exports: Mapping[str, int | None] | None = None,
    absolute_crcs: bool = False,
    sections: Mapping[str, bytes] | None = None,
) -> bytes:
    """A relocatable ELF file; ``sections`` are added as they are.

    With ``absolute_crcs`` a CRC is its symbol's value, as before Linux 5.19.
    """
    pairs = modinfo.items() if isinstance(modinfo, Mapping) else modinfo
    content = {".modinfo": b"".join(f"{key}={value}\0".encode() for key, value in pairs)}
    if versions is not None:
        content["__versions"] = b"".join(
            struct.pack("<Q56s", crc, name.encode()) for name, crc in versions.items()
        )
    if extended_versions is not None:
        crcs = extended_versions.values()
        content["__version_ext_crcs"] = struct.pack(f"<{len(crcs)}I", *crcs)
        content["__version_ext_names"] = b"".join(
            name.encode() + b"\0" for name in extended_versions
        )
    exports = exports or {}
    content["___kcrctab"] = b"".join(struct.pack("<I", crc or 0) for crc in exports.values())
    content |= sections or {}

    names = list(content)
    strings = _Strings()
    symbols = [struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)]

    def symbol(name: str, binding: int, section: int, value: int = 0) -> None:
        symbols.append(
            struct.pack("<IBBHQQ", strings.add(name), binding << 4, 0, section, value, 0)
        )

    crctab = 1 + names.index("___kcrctab")
    for number, (name, crc) in enumerate(exports.items()):
        symbol(f"__ksymtab_{name}", 0, 1)
        if crc is not None and absolute_crcs:
            symbol(f"__crc_{name}", 1, _ABSOLUTE, crc)
        elif crc is not None:
            symbol(f"__crc_{name}", 0, crctab, 4 * number)
        symbol(name, 1, 1)
    for name in undefined:
        symbol(name, 1, 0)
    for name in weak:
        symbol(name, 2, 0)
    content |= {".symtab": b"".join(symbols), ".strtab": bytes(strings.data)}
    return _file(machine, content)


class _Strings:
    def __init__(self) -> None:
        self.data = bytearray(b"\0")

    def add(self, text: str) -> int:
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


def _file(machine: int, content: dict[str, bytes]) -> bytes:
    names = _Strings()
    body = bytearray(64)
    order = [*content, ".shstrtab"]
    headers = [bytes(64)]
    for name in order:
        at = names.add(name)
        data = bytes(names.data) if name == ".shstrtab" else content[name]
        kind = {".symtab": 2, ".strtab": 3, ".shstrtab": 3}.get(name, 1)
        link = 1 + order.index(".strtab") if name == ".symtab" else 0
        headers.append(
            struct.pack("<IIQQQQIIQQ", at, kind, 0, 0, len(body), len(data), link, 0, 1, 0)
        )
        body += data
    offset = len(body)
    body[:64] = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        b"\x7fELF",
        *(2, 1, 1, 0),
        *(1, machine, 1),
        *(0, 0, offset),
        *(0, 64, 0, 0, 64, len(headers), len(headers) - 1),
    )
    return bytes(body) + b"".join(headers)
