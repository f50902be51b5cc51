"""Reads kernel modules: 64-bit little-endian ELF, as far as the module loader looks.

Works on anything that slices like bytes, an open file included (``host.files.data``), and reads
only the sections it needs, the longest of them in parts. Modules come from a build, which may
be hostile: limits, far above the largest modules known, keep what is held of one below 200 MB.

Sources: the System V gABI; ``include/linux/module.h`` (``struct modversion_info``),
``include/linux/export-internal.h`` and ``kernel/module/{main,version}.c`` of the kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

MACHINES = {62: "x86_64", 183: "aarch64"}
"""The machines Modulus knows, as ``uname -m`` names them, by ``e_machine``."""

_HEADER = struct.Struct("<4sBBBB8xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_VERSION = struct.Struct("<Q56s")
_CRC = struct.Struct("<I")
_RELOCATABLE = 1
_NOBITS = 8
_SYMTAB = 2
_UNDEFINED = 0
_ABSOLUTE = 0xFFF1
_RESERVED = 0xFF00
_WEAK = 2

_MOST_STRINGS = 16 << 20
_MOST_SYMBOLS = 64 << 20
_MOST_VERSIONS = 4 << 20
_MOST_INFO = 1 << 20
"""Bytes of a section; of its symbols, one part is held at a time."""
_PART = 1 << 15
"""Symbols that are read at a time."""
_MOST_NAMES = 1 << 15
"""Symbols that are imported or exported; the largest modules have some thousand."""
_LONGEST_NAME = 512
"""``KSYM_NAME_LEN``."""


class Data(Protocol):
    """What ``bytes``, ``mmap.mmap`` and ``host.files.data.FileData`` have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...


@dataclass(frozen=True)
class ModuleInfo:
    """What a module says of itself, in ``.modinfo``."""

    modinfo: Mapping[str, tuple[str, ...]]

    def info(self, key: str) -> str | None:
        """The first value of ``key`` in ``.modinfo``, as modinfo(8) shows it."""
        return next(iter(self.modinfo.get(key, ())), None)


@dataclass(frozen=True)
class KernelModule(ModuleInfo):
    """What the module loader looks at in a module.

    ``undefined`` leaves out weak symbols, which need not be found. ``versions`` are the CRCs
    the module expects of its imports, ``exports`` its own symbols with their CRC, None where
    the kernel's symbols have no versions.
    """

    machine: str
    sections: frozenset[str]
    undefined: frozenset[str]
    versions: Mapping[str, int]
    exports: Mapping[str, int | None]


@dataclass(frozen=True)
class _Section:
    name: str
    type: int
    offset: int
    size: int
    link: int


def read_module(data: Data) -> KernelModule:
    """The module in ``data``; ValueError for anything else, or one that is cut short."""
    machine, sections = _read_header(data)
    contents = {section.name: section for section in sections}
    symbols = tuple(_symbols(data, sections))
    return KernelModule(
        machine=machine,
        sections=frozenset(contents),
        modinfo=_modinfo(_optional(data, contents, ".modinfo", _MOST_INFO)),
        undefined=frozenset(
            name
            for name, binding, index, _ in symbols
            if index == _UNDEFINED and binding != _WEAK
        ),
        versions=_versions(data, contents),
        exports=_exports(data, sections, symbols),
    )


def read_info(data: Data) -> ModuleInfo:
    """What the module in ``data`` says of itself; ValueError as for ``read_module``.

    It does not read the symbols, of which a large module has tens of thousands.
    """
    _, sections = _read_header(data)
    contents = {section.name: section for section in sections}
    return ModuleInfo(_modinfo(_optional(data, contents, ".modinfo", _MOST_INFO)))


def _read_header(data: Data) -> tuple[str, tuple[_Section, ...]]:
    """Machine and sections; ValueError for what is no module."""
    if len(data) < _HEADER.size:
        raise ValueError("too short for an ELF file")
    magic, bits, order, _, _, kind, machine, *rest = _HEADER.unpack(data[: _HEADER.size])
    if magic != b"\x7fELF":
        raise ValueError("not an ELF file")
    if (bits, order) != (2, 1):
        raise ValueError("not 64-bit little-endian ELF")
    if kind != _RELOCATABLE:
        raise ValueError("not a relocatable ELF file")
    sections = _sections(data, offset=rest[3], entry=rest[8], count=rest[9], names=rest[10])
    return MACHINES.get(machine, f"machine {machine}"), sections


def _sections(
    data: Data, *, offset: int, entry: int, count: int, names: int
) -> tuple[_Section, ...]:
    if entry != _SECTION.size or not 0 < names < count:
        raise ValueError("no usable section headers")
    table = list(_SECTION.iter_unpack(_slice(data, offset, count * entry)))
    strings = _slice(data, table[names][4], table[names][5], _MOST_STRINGS)
    return tuple(
        _Section(_string(strings, fields[0]), fields[1], fields[4], fields[5], fields[6])
        for fields in table
    )


def _symbols(data: Data, sections: tuple[_Section, ...]) -> Iterator[tuple[str, int, int, int]]:
    """Name, binding, section index and value of the symbols that import or export."""
    table = next((section for section in sections if section.type == _SYMTAB), None)
    if table is None:
        return
    if table.link >= len(sections) or table.size % _SYMBOL.size:
        raise ValueError("damaged symbol table")
    if table.size > _MOST_SYMBOLS:
        raise ValueError("its symbol table is too large")
    strings = _content(data, sections[table.link], _MOST_STRINGS)
    found = 0
    for start in range(0, table.size, _PART * _SYMBOL.size):
        size = min(_PART * _SYMBOL.size, table.size - start)
        part = b"" if table.type == _NOBITS else _slice(data, table.offset + start, size)
        for name, info, _, index, value, _ in _SYMBOL.iter_unpack(part):
            if (
                name
                if index == _UNDEFINED
                else strings.startswith((b"__ksymtab_", b"__crc_"), name)
            ):
                found += 1
                if found > _MOST_NAMES:
                    raise ValueError(f"has more than {_MOST_NAMES} imports and exports")
                yield _string(strings, name), info >> 4, index, value


def _exports(
    data: Data,
    sections: tuple[_Section, ...],
    symbols: tuple[tuple[str, int, int, int], ...],
) -> dict[str, int | None]:
    """Exported names with their CRCs.

    A CRC is data at its ``__crc_`` symbol since Linux 5.19, and before that the value of the
    symbol itself, which is absolute.
    """
    found: dict[str, int | None] = {}
    crcs: dict[str, int] = {}
    for name, _, index, value in symbols:
        if index == _UNDEFINED:
            continue
        if name.startswith("__ksymtab_"):
            found[name.removeprefix("__ksymtab_")] = None
        elif index == _ABSOLUTE:
            crcs[name.removeprefix("__crc_")] = value & 0xFFFFFFFF
        elif index < min(len(sections), _RESERVED):
            at = _slice(data, sections[index].offset + value, _CRC.size)
            crcs[name.removeprefix("__crc_")] = _CRC.unpack(at)[0]
        else:
            raise ValueError(f"{name} is in no section")
    return {name: crcs.get(name) for name in found}


def _versions(data: Data, sections: Mapping[str, _Section]) -> dict[str, int]:
    """The CRCs of imports, from either of the tables the kernel reads.

    ``__version_ext_*`` came with Linux 6.13 for names longer than the 55 bytes that
    ``__versions`` holds; a module may have both.
    """
    table = _optional(data, sections, "__versions", _MOST_VERSIONS)
    if len(table) % _VERSION.size:
        raise ValueError("damaged __versions")
    versions = {_text(name): crc & 0xFFFFFFFF for crc, name in _VERSION.iter_unpack(table)}
    crcs = _optional(data, sections, "__version_ext_crcs", _MOST_NAMES * _CRC.size)
    count = len(crcs) // _CRC.size
    names = _optional(data, sections, "__version_ext_names", _MOST_VERSIONS)
    if len(crcs) % _CRC.size or names.count(b"\0") < count:
        raise ValueError("damaged __version_ext_crcs")
    extended = zip(names.split(b"\0", count), _CRC.iter_unpack(crcs), strict=False)
    return versions | {_text(name): crc for name, (crc,) in extended}


def _modinfo(section: bytes) -> dict[str, tuple[str, ...]]:
    values: dict[str, list[str]] = {}
    for entry in filter(None, section.split(b"\0")):
        key, _, value = entry.decode("utf-8", "replace").partition("=")
        values.setdefault(key, []).append(value)
    return {key: tuple(found) for key, found in values.items()}


def _optional(data: Data, sections: Mapping[str, _Section], name: str, most: int) -> bytes:
    return _content(data, sections[name], most) if name in sections else b""


def _content(data: Data, section: _Section, most: int) -> bytes:
    if section.type == _NOBITS:
        return b""
    return _slice(data, section.offset, section.size, most)


def _slice(data: Data, offset: int, size: int, most: int | None = None) -> bytes:
    if most is not None and size > most:
        raise ValueError(f"a table of it has {size} bytes, more than {most}")
    if offset + size > len(data):
        raise ValueError("the file is cut short")
    return data[offset : offset + size]


def _string(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset, offset + _LONGEST_NAME)
    if end < 0:
        raise ValueError("a name is too long, or runs past its string table")
    return table[offset:end].decode("utf-8", "replace")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")
