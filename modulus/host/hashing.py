"""Hashes modules while other work goes on: most of a warm start without it is imports.

What is recorded of files is their SHA-256. A processor without instructions for that (Intel's
before Ice Lake, emulated ones) has twice the speed with SHA-512, which is no weaker; so there
is remembered which SHA-512 belongs to a SHA-256.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from modulus.errors import ModulusError
from modulus.host import files, sysfs
from modulus.host.place import DRIVERS, below
from modulus.host.recall import Recall

_SHA, _QUICK = "sha256", "sha512"
_SWITCH_SECONDS = 0.00002
_INSTRUCTIONS = frozenset((b"sha_ni", b"sha2"))
"""As /proc/cpuinfo calls them, on x86 and on ARM."""


class Hashes:
    """Hashes of files; those of ``paths`` are begun in a thread, in order."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._algorithm = _SHA if has_instructions() else _QUICK
        self._begun = {path: threading.Event() for path in paths}
        self._done: dict[Path, str] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)
        if self._begun:
            self._thread.start()

    @property
    def under_way(self) -> bool:
        """Whether there is something to wait for."""
        return not all(ended.is_set() for ended in self._begun.values())

    def _work(self) -> None:
        usual = sys.getswitchinterval()
        # Between two pieces it takes a moment, for which it would wait longer than for a piece
        # while others import.
        sys.setswitchinterval(_SWITCH_SECONDS)
        try:
            self._hash_all()
        finally:
            sys.setswitchinterval(usual)

    def _hash_all(self) -> None:
        for path, ended in self._begun.items():
            # Who asks for one that cannot be read finds out himself.
            with contextlib.suppress(OSError):
                (self._done[path],) = files.hash_file(path, self._algorithm)
            ended.set()

    def holds(self, path: Path, sha256: str, recall: Recall) -> bool:
        """Whether ``path`` has that hash, in hexadecimal; waited for if it is under way."""
        if self._algorithm == _SHA:
            return self._hash(path) == sha256
        known = recall.find(_QUICK, sha256)
        if known and known == self._hash(path):
            return True
        found, quick = files.hash_file(path, _SHA, _QUICK)
        if found == sha256:
            recall.note(quick, _QUICK, sha256)
        return found == sha256

    @staticmethod
    def keep(sha256: str, recall: Recall) -> None:
        """Keeps what is remembered for that hash, although it is not asked for now."""
        recall.find(_QUICK, sha256)

    def _hash(self, path: Path) -> str:
        if path in self._begun:
            self._begun[path].wait()
        return self._done.get(path) or files.hash_file(path, self._algorithm)[0]

    def settle(self) -> None:
        """Waits for all; call it before other processes are started, which is a fork."""
        for ended in self._begun.values():
            ended.wait()


def has_instructions() -> bool:
    """Whether the first processor, like all of them, has instructions for SHA-256."""
    # No more of it: with hundreds of processors the kernel takes its time.
    with contextlib.suppress(OSError), open("/proc/cpuinfo", "rb", buffering=0) as file:
        return not _INSTRUCTIONS.isdisjoint(file.read(4096).split())
    return False


def hash_modules(root: Path, name: str) -> Hashes:
    """Begins with the modules of driver ``name`` for the running kernel that are not loaded.

    A guess, which costs nothing but time where it is wrong: whether they will do is for others
    to find out.
    """
    release = sysfs.text(root / "proc/sys/kernel/osrelease")
    found: list[Path] = []
    with contextlib.suppress(OSError, ModulusError):
        modules = below(root, f"{DRIVERS}/{name}/lib/modules/{release}")
        found = [
            path
            for path in sorted(modules.glob("*.ko"))
            if not (root / "sys/module" / path.stem.replace("-", "_")).is_dir()
        ]
    return Hashes(found)
