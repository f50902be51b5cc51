"""Large files of build folders by their content: ``SHA256.zst``, each once for all kernels.

Unlike the store's objects they are worth little packing, and may go at any time.
"""

from __future__ import annotations

import os
from pathlib import Path

from modulus.errors import IntegrityError
from modulus.host.archive.zstd import unpacked
from modulus.host.files import atomic
from modulus.host.files.digest import hash_file
from modulus.host.files.regular import open_regular

_MOST = 1 << 30
"""Bytes; no larger file is kept (``host.reuse.reuse_rules``)."""
_LEVEL = 1
"""Most blobs are a vendor's own code, which hardly compresses."""


class Blobs:
    """The blobs in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where the blob of that content is, or would be."""
        return self._folder / f"{sha256}.zst"

    def add(self, source: Path, scratch: Path) -> str:
        """Keeps ``source`` durably, by way of the folder ``scratch``; returns its sha256."""
        import zstandard

        sha256 = hash_file(source)
        final = self.path(sha256)
        if final.exists():
            os.utime(final)  # It is wanted again.
        else:
            final.parent.mkdir(parents=True, exist_ok=True)
            part = scratch / sha256
            with open(source, "rb") as old, open(part, "xb") as new:
                zstandard.ZstdCompressor(level=_LEVEL).copy_stream(old, new)
                new.flush()
                os.fsync(new.fileno())
            part.rename(final)
            atomic.fsync_dir(final.parent)
        return sha256

    def write(self, sha256: str, target: Path) -> None:
        """Writes a blob to the new file ``target``; a damaged blob goes: IntegrityError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open_regular(self.path(sha256)) as old, open(target, "xb") as new:
                for piece in unpacked(old, _MOST):
                    new.write(piece)
            sound = hash_file(target) == sha256
        except ValueError:
            sound = False
        if not sound:
            self.path(sha256).unlink(missing_ok=True)
            raise IntegrityError(f"the kept {target.name} is damaged", "build it again")
        target.chmod(0o644)
