"""A file as a patch against another one: tiny where both were built from the same code.

``zstd --patch-from`` does the same with both files whole in memory; here it takes a few MiB.
The file is cut into pieces. Each is a zstd frame of its own, with a part of the base as its
dictionary: the part where the piece's content lay. The parts never go backwards, so that the
base may come straight out of a decompressor.

A patch is, for each piece in order, where its part begins (u64), the lengths of part and frame
(u32 each, all little-endian), and the frame.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from modulus.host.archive.decompress import CHUNK, Reader

if TYPE_CHECKING:
    from zstandard import ZstdCompressionDict

PIECE = 1 << 18  # bytes of the file
_SLACK = 1 << 17
"""How many bytes of the base a part has before and after where the piece should be. More of
them need larger tables in zstd, which cost more than they find."""
_REACH = 2 << 20  # How far the content may have moved since the last piece, in bytes.
_LEVEL = 9
_TABLE_LOG = 18  # Entries in zstd's tables: with fewer, most of a part is forgotten.
_WINDOW_LOG = 20  # Piece and part together.
_PROBE = 32
_PROBES = 16
_WORKERS = 2
_HEAD = struct.Struct("<QII")


def make_patch(new: BinaryIO, base: Reader, target: BinaryIO, limit: int) -> bool:
    """Writes to ``target`` the patch for ``new`` against ``base``; reads all of ``base``.

    False where that takes more than ``limit`` bytes; ``target`` then holds nothing of use.
    """
    window, moved, offset, floor, left = _Window(base), 0, 0, 0, limit
    underway: deque[tuple[int, int, Future[bytes]]] = deque()

    def put() -> None:
        nonlocal left
        start, length, made = underway.popleft()
        frame = made.result()
        target.write(_HEAD.pack(start, length, len(frame)))
        target.write(frame)
        left -= _HEAD.size + len(frame)

    with ThreadPoolExecutor(_WORKERS) as pool:
        while left >= 0 and (piece := new.read(PIECE)):
            near = offset + moved
            window.show(near - _REACH, near + len(piece) + _REACH)
            moved = _moved(piece, offset, moved, window)
            near = offset + moved
            floor, part = window.part(max(floor, near - _SLACK), near + len(piece) + _SLACK)
            underway.append((floor, len(part), pool.submit(_compress, piece, part)))
            offset += len(piece)
            if len(underway) > _WORKERS:
                put()
        while underway:
            put()
    while base.read(CHUNK):
        pass
    return left >= 0


def read_patch(patch: BinaryIO, base: Reader) -> Iterator[bytes]:
    """The pieces of the file that ``patch`` makes of ``base``; ValueError for a damaged one."""
    import zstandard

    window = _Window(base)
    while head := patch.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise ValueError("the patch ends in the middle")
        start, length, size = _HEAD.unpack(head)
        if length > PIECE + 2 * _SLACK or size > 2 * PIECE:
            raise ValueError("the patch has a piece that is too large")
        frame = patch.read(size)
        window.show(start, start + length)
        begins, part = window.part(start, start + length)
        try:
            # Before memory is set aside for the size that the frame claims.
            known = len(frame) == size and zstandard.frame_content_size(frame)
            if not 0 < known <= PIECE or (begins, len(part)) != (start, length):
                raise ValueError("the patch does not fit what it is against")
            yield zstandard.ZstdDecompressor(dict_data=_dictionary(part)).decompress(frame)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None


class _Window:
    """The part in view of a file that is read forward only."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.start = 0
        self.data = bytearray()

    def show(self, start: int, end: int) -> None:
        """Moves on to ``start`` and reads up to ``end``; earlier bytes are gone."""
        while self.start + len(self.data) < end:
            self._drop(start)
            more = self._reader.read(min(CHUNK, end - self.start - len(self.data)))
            if not more:
                break
            self.data += more
        self._drop(start)

    def part(self, start: int, end: int) -> tuple[int, bytes]:
        """The bytes from ``start`` to ``end`` that are in view, after where they begin."""
        begin = min(max(start, self.start), self.start + len(self.data))
        return begin, bytes(self.data[begin - self.start : max(end, begin) - self.start])

    def _drop(self, start: int) -> None:
        count = max(0, min(start - self.start, len(self.data)))
        del self.data[:count]
        self.start += count


def _moved(piece: bytes, offset: int, moved: int, window: _Window) -> int:
    """How far the content of ``piece`` has moved in the base; ``moved`` is the guess."""
    step = max(1, len(piece) // _PROBES)
    probes = [(at, piece[at : at + _PROBE]) for at in range(0, len(piece) - _PROBE, step)]
    # Padding is everywhere.
    telling = [(at, probe) for at, probe in probes if len(set(probe)) > _PROBE // 2]
    here = offset + moved - window.start
    shown = (probed for probed in telling if here + probed[0] >= 0)
    if any(window.data.startswith(probe, here + at) for at, probe in shown):
        return moved
    for at, probe in telling:
        found = window.data.find(probe)
        if found >= 0:
            return window.start + found - at - offset
    return moved


def _compress(piece: bytes, part: bytes) -> bytes:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=_WINDOW_LOG, hash_log=_TABLE_LOG, chain_log=_TABLE_LOG
    )
    packer = zstandard.ZstdCompressor(
        compression_params=parameters, dict_data=_dictionary(part)
    )
    return packer.compress(piece)


def _dictionary(part: bytes) -> ZstdCompressionDict:
    import zstandard

    return zstandard.ZstdCompressionDict(part, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
