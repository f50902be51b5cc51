"""Whether files have the hashes that are recorded, some of them hashed meanwhile.

What is recorded of files is their SHA-256. A processor without instructions for that (Intel's
before Ice Lake, emulated ones) has twice the speed with SHA-512, which is no weaker; so there
is remembered which SHA-512 belongs to a SHA-256.
"""

from __future__ import annotations

from pathlib import Path

from modulus.host.digest import QUICK, SHA, choose_algorithm, hash_file
from modulus.host.hashahead import Ahead
from modulus.host.recall import Recall


class Hashes:
    """Hashes of files; those that ``ahead`` has are not made again."""

    def __init__(self, ahead: Ahead | None = None) -> None:
        self._algorithm = ahead.algorithm if ahead else choose_algorithm()
        self._ahead = ahead
        self._done: dict[str, str] = {}

    @property
    def under_way(self) -> bool:
        """Whether there is something to wait for."""
        return self._ahead is not None

    def holds(self, path: Path, sha256: str, recall: Recall) -> bool:
        """Whether ``path`` has that hash, in hexadecimal; waited for if it is under way."""
        if self._algorithm == SHA:
            return self._hash(path) == sha256
        known = recall.find(QUICK, sha256)
        if known and known == self._hash(path):
            return True
        found, quick = hash_file(path, SHA, QUICK)
        if found == sha256:
            recall.note(quick, QUICK, sha256)
        return found == sha256

    @staticmethod
    def keep(sha256: str, recall: Recall) -> None:
        """Keeps what is remembered for that hash, although it is not asked for now."""
        recall.find(QUICK, sha256)

    def _hash(self, path: Path) -> str:
        self.settle()
        return self._done.get(str(path)) or hash_file(path, self._algorithm)[0]

    def settle(self) -> None:
        """Waits for all."""
        ahead, self._ahead = self._ahead, None
        if ahead:
            self._done.update(ahead.wait())
