"""Whether files have the SHA-256 that is recorded, some of them hashed meanwhile."""

from __future__ import annotations

from pathlib import Path

from modulus.host.files.digest import hash_file
from modulus.host.files.hashahead import Ahead


class Hashes:
    """Hashes of files; those that ``ahead`` has are not made again."""

    def __init__(self, ahead: Ahead | None = None) -> None:
        self._ahead = ahead
        self._done: dict[str, str] = {}

    @property
    def under_way(self) -> bool:
        """Whether there is something to wait for."""
        return self._ahead is not None

    def holds(self, path: Path, sha256: str) -> bool:
        """Whether ``path`` has that hash, in hexadecimal; waited for if it is under way."""
        self.settle()
        return (self._done.get(str(path)) or hash_file(path)) == sha256

    def settle(self) -> None:
        """Waits for all."""
        ahead, self._ahead = self._ahead, None
        if ahead:
            self._done.update(ahead.wait())
