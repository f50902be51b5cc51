"""The SHA-256 of whole files."""

from __future__ import annotations

import hashlib
import os
from io import FileIO

from modulus.host.files.regular import open_regular

_CHUNK = 1 << 20


def hash_file(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256 in hexadecimal; it is read in pieces."""
    with open_regular(path) as file:
        return hash_open(file)


def hash_open(file: FileIO) -> str:
    """As ``hash_file``, for the rest of an open file."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(min(_CHUNK, os.fstat(file.fileno()).st_size + 1)))
    while count := file.readinto(piece):
        digest.update(piece[:count])
    return digest.hexdigest()
