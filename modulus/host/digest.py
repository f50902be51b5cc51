"""Hashes of whole files, and which of them this processor is quick at."""

from __future__ import annotations

import hashlib
import os

# As in ``typing``, which ``hashahead`` has no time to import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO

SHA, QUICK = "sha256", "sha512"
"""What is recorded of files, and what takes half the time without instructions for it."""

_INSTRUCTIONS = frozenset((b"sha_ni", b"sha2"))
"""As /proc/cpuinfo calls them, on x86 and on ARM."""
_CHUNK = 1 << 20


def hash_file(path: str | os.PathLike[str], *algorithms: str) -> list[str]:
    """The file's hashes in hexadecimal, by hashlib's names, of what is read once, in pieces."""
    with open(path, "rb", buffering=0) as file:
        return hash_open(file, *algorithms)


def hash_open(file: FileIO, *algorithms: str) -> list[str]:
    """The same of what is left to read of an open file."""
    digests = [hashlib.new(name) for name in algorithms]
    piece = memoryview(bytearray(min(_CHUNK, os.fstat(file.fileno()).st_size + 1)))
    while count := file.readinto(piece):
        for digest in digests:
            digest.update(piece[:count])
    return [digest.hexdigest() for digest in digests]


def choose_algorithm() -> str:
    """The one of the two that is quick here."""
    return SHA if has_instructions() else QUICK


def has_instructions() -> bool:
    """Whether the first processor, like all of them, has instructions for SHA-256."""
    try:
        # No more of it: with hundreds of processors the kernel takes its time.
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            return not _INSTRUCTIONS.isdisjoint(file.read(4096).split())
    except OSError:
        return False
