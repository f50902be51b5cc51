"""Whole files of a store by their content: ``objects/SHA256.zst``, each of them once.

Entries name them by the sha256 of their content. A clean-up, which has the store to itself,
removes objects that no entry names any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from modulus.errors import IntegrityError
from modulus.host.archive.decompress import CHUNK, Reader
from modulus.host.archive.zstd import LARGEST_WINDOW
from modulus.host.files import atomic
from modulus.host.files.place import make_dirs
from modulus.host.files.regular import open_regular

_LEVEL = 6
"""Most of a vendor's code is incompressible: higher levels cost seconds and win a percent."""
_WINDOW_LOG = 20  # With more, memory grows and nothing else.
_SUFFIX = ".zst"
_SCRATCH = "object"


class Objects:
    """The objects of the store at ``root``."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "objects"

    def path(self, sha256: str) -> Path:
        """Where the object of that content is, or would be."""
        return self.folder / f"{sha256}{_SUFFIX}"

    def all(self) -> dict[str, int]:
        """The bytes that each object takes, by its sha256."""
        found = {}
        for path in self.folder.glob(f"[0-9a-f]*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                found[path.name.removesuffix(_SUFFIX)] = path.lstat().st_size
        return found

    @contextlib.contextmanager
    def open(self, sha256: str) -> Iterator[Reader]:
        """The content, which the caller has to hash; ValueError for a damaged one."""
        with open_regular(self.path(sha256)) as file:
            yield _Plain(file)

    def is_sound(self, sha256: str) -> bool:
        """Whether it is there and has that content; all of it is read."""
        digest = hashlib.sha256()
        try:
            with self.open(sha256) as content:
                while piece := content.read(CHUNK):
                    digest.update(piece)
        except (OSError, ValueError):
            return False
        return digest.hexdigest() == sha256

    def sweep(self) -> None:
        """Removes what killed processes were adding."""
        atomic.sweep(self.folder, _SCRATCH)

    def add(self, sha256: str, source: Path) -> None:
        """Makes ``source`` an object, durably and in one rename; replaces a damaged one.

        Raises IntegrityError where ``source`` has other content.
        """
        make_dirs(self.folder)
        with atomic.scratch(self.folder, _SCRATCH) as folder:
            made = folder / self.path(sha256).name
            if _compress(source, made) != sha256:
                raise IntegrityError(
                    f"{source.name} changed while it was stored",
                    "run the same command again; if it stays, check disk and memory",
                )
            made.replace(self.path(sha256))
            atomic.fsync_dir(self.folder)


def _compress(source: Path, target: Path) -> str:
    """Returns the sha256 of what it read."""
    import zstandard

    digest, size = hashlib.sha256(), source.stat().st_size
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, source_size=size, window_log=_WINDOW_LOG, write_checksum=True
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters)
    with open(source, "rb") as old, open(target, "xb") as new:
        content = cast(BinaryIO, Hashed(old, digest))
        packer.copy_stream(content, new, size=size, read_size=CHUNK)
        new.flush()
        os.fchmod(new.fileno(), 0o644)
        os.fsync(new.fileno())
    return digest.hexdigest()


class Hashed:
    """A file; ``digest`` gets all that is read from it."""

    def __init__(self, file: Reader, digest: hashlib._Hash) -> None:
        self._file = file
        self._digest = digest

    def read(self, limit: int) -> bytes:
        data = self._file.read(limit)
        self._digest.update(data)
        return data


class _Plain:
    """The content of an object."""

    def __init__(self, file: Reader) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        decoder = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        self._reader = decoder.stream_reader(cast(BinaryIO, file), read_size=CHUNK)

    def read(self, limit: int) -> bytes:
        try:
            return self._reader.read(limit)
        except self._error as error:
            raise ValueError(str(error)) from None
