"""Zstandard with bounds of our own: the size that a frame gives is not believed.

``ZstdDecompressor.decompress`` allocates that size before it has read a byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast

from modulus.host.archive.decompress import CHUNK, Reader

LARGEST_WINDOW = 1 << 23
"""Bytes of window that a frame may ask for: more than any level of ours takes."""


def unpacked(file: Reader, most: int) -> Iterator[bytes]:
    """The content of the one frame in ``file`` in pieces; ValueError for a damaged one, or one
    of more than ``most`` bytes."""
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    reader = decoder.stream_reader(cast(BinaryIO, file), read_size=CHUNK)
    left = most
    try:
        while piece := reader.read(CHUNK):
            left -= len(piece)
            if left < 0:
                raise ValueError(f"it has more than {most} bytes")
            yield piece
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def unpack(file: Reader, most: int) -> bytes:
    """The content at once; see ``unpacked``."""
    return b"".join(unpacked(file, most))
