"""Reads a stretch of a file as plain bytes, in order, in memory that does not grow.

Whatever the compression, a reader has ``read(limit)``, which returns between one and ``limit``
bytes, or none at the end, and raises IntegrityError for damaged or cut data.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from io import BufferedReader
from lzma import LZMAError
from typing import BinaryIO, Protocol, cast

from modulus.errors import IntegrityError

CHUNK = 256 << 10
_XZ_MEMORY = 256 << 20  # bytes; xz -9 needs 65 MiB
_ZSTD_WINDOW = 128 << 20  # bytes; what zstd(1) itself takes without being told otherwise


class Reader(Protocol):
    """Plain bytes, in order."""

    def read(self, limit: int) -> bytes:
        """The next bytes, at most ``limit``; none at the end."""


class Stretch:
    """``size`` bytes of ``file`` from its current position, counted as they are read."""

    def __init__(self, file: BufferedReader, size: int, on_read: Callable[[int], None]) -> None:
        self._file = file
        self._left = size
        self._on_read = on_read
        self.done = 0

    def read(self, limit: int) -> bytes:
        data = self._file.read(min(limit, self._left))
        self._left -= len(data)
        self.done += len(data)
        self._on_read(self.done)
        return data


class _Decoder(Protocol):
    """What ``lzma`` and ``bz2`` have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Inflate:
    """zlib's gzip decoder in the form of the others."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


class _Streams:
    """One compressed stream after another; zeros may follow, as in xz and on tapes."""

    def __init__(self, source: Stretch, magic: bytes, make: Callable[[], _Decoder]) -> None:
        self._source = source
        self._magic = magic
        self._make = make
        self._decoder = make()
        self._next = b""

    def read(self, limit: int) -> bytes:
        while True:
            if self._decoder.eof and not self._begin_next():
                return b""
            data, self._next = self._next, b""
            if not data and self._decoder.needs_input:
                data = self._source.read(CHUNK)
                if not data:
                    raise damaged("it ends in the middle")
            if plain := self._decode(data, limit):
                return plain

    def _decode(self, data: bytes, limit: int) -> bytes:
        try:
            return self._decoder.decompress(data, limit)
        except (LZMAError, zlib.error, OSError, EOFError, ValueError) as error:
            raise damaged(str(error)) from None

    def _begin_next(self) -> bool:
        data = self._decoder.unused_data.lstrip(b"\0")
        while len(data) < len(self._magic) and (more := self._source.read(CHUNK)):
            data = (data + more).lstrip(b"\0")
        if not data:
            return False
        if not data.startswith(self._magic):
            raise damaged("something else follows the compressed data")
        self._decoder, self._next = self._make(), data
        return True


class _Zstd:
    """Zstandard frames; the library itself goes from one to the next."""

    def __init__(self, source: Stretch) -> None:
        import zstandard

        decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._error = zstandard.ZstdError
        self._reader = decoder.stream_reader(
            cast(BinaryIO, source), read_size=CHUNK, read_across_frames=True
        )

    def read(self, limit: int) -> bytes:
        try:
            return self._reader.read(limit)
        except self._error as error:
            raise damaged(str(error)) from None


def _xz() -> _Decoder:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _bzip2() -> _Decoder:
    return bz2.BZ2Decompressor()


MAGIC_BYTES = 6


def open_reader(magic: bytes, source: Stretch) -> Reader:
    """The reader for data that begins with ``magic``; data without a known one is plain."""
    if magic.startswith(b"\x1f\x8b"):
        return _Streams(source, b"\x1f\x8b", _Inflate)
    if magic.startswith(b"BZh"):
        return _Streams(source, b"BZh", _bzip2)
    if magic.startswith(b"\xfd7zXZ\0"):
        return _Streams(source, b"\xfd7zXZ\0", _xz)
    # A frame, or a skippable one before it (RFC 8878, 3.1).
    if magic[:4] == b"\x28\xb5\x2f\xfd" or (
        magic[1:4] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50
    ):
        return _Zstd(source)
    return source


def damaged(why: str) -> IntegrityError:
    """The error for an archive that is not what it should be."""
    return IntegrityError(
        f"the archive is damaged: {why}", "remove the download and fetch it again"
    )
