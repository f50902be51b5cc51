"""Which kernel this is, to the bit: a release may be built again under the same name."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from modulus.core.record import forms
from modulus.core.record.forms import Fields

_NOTE = struct.Struct("<III")
_BUILD_ID = 3
"""``NT_GNU_BUILD_ID`` of elf.h."""


@dataclass(frozen=True)
class KernelId:
    """A kernel: what ``uname -r`` and ``uname -v`` say, and its build id in hexadecimal.

    The latter two are None where they cannot be read.
    """

    release: str
    version: str | None = None
    build_id: str | None = None


def parse_kernel(of: Fields) -> KernelId:
    """The kernel in a record's fields; ValueError where they name none."""
    return KernelId(
        of("kernel", forms.release),
        of("kernel_version", forms.optional(forms.line)),
        of("build_id", forms.optional(forms.hexadecimal)),
    )


def parse_build_id(notes: bytes) -> str | None:
    """The build id in the contents of ``/sys/kernel/notes``; None without one.

    The file is a row of ELF notes (elf(5), ``Elf64_Nhdr``), name and value padded to 4 bytes.
    """
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, value_size, kind = _NOTE.unpack_from(notes, at)
        name_at = at + _NOTE.size
        value_at = name_at + _padded(name_size)
        at = value_at + _padded(value_size)
        if kind == _BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[value_at : value_at + value_size].hex() or None
    return None


def _padded(size: int) -> int:
    return (size + 3) & ~3
