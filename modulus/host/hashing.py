"""Hashes modules while other work goes on: most of a warm start without it is imports.

What is recorded of files is their SHA-256. A processor without instructions for that (Intel's
before Ice Lake, emulated ones) has twice the speed with SHA-512, which is no weaker; so there
is remembered which SHA-512 belongs to a SHA-256.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from modulus.errors import ModulusError
from modulus.host import files, sysfs
from modulus.host.place import DRIVERS, below
from modulus.host.recall import Recall

_SHA, _QUICK = "sha256", "sha512"
_INSTRUCTIONS = frozenset((b"sha_ni", b"sha2"))
"""As /proc/cpuinfo calls them, on x86 and on ARM."""


class Hashes:
    """Hashes of files; those of ``paths`` are begun in a process of their own, in order.

    A thread would wait for each import that goes on, and they for it. The process ends when
    it has hashed, or finds that nobody listens.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._algorithm = _SHA if has_instructions() else _QUICK
        self._begun = tuple(paths)
        self._done: dict[Path, str] = {}
        self._child: tuple[int, int] | None = None
        # Who asks for what could not be begun hashes it himself.
        with contextlib.suppress(OSError):
            self._child = self._start() if self._begun else None

    @property
    def under_way(self) -> bool:
        """Whether there is something to wait for."""
        return self._child is not None

    def _start(self) -> tuple[int, int]:
        """The process, and where it writes a line for each file."""
        read, write = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(read)
            os.close(write)
            raise
        if pid == 0:
            try:
                for path in self._begun:
                    os.write(write, f"{self._try(path)}\n".encode())
            finally:
                os._exit(0)
        os.close(write)
        return pid, read

    def _try(self, path: Path) -> str:
        # Who asks for one that cannot be read finds out himself.
        with contextlib.suppress(OSError):
            return files.hash_file(path, self._algorithm)[0]
        return ""

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
            self.settle()
        return self._done.get(path) or files.hash_file(path, self._algorithm)[0]

    def settle(self) -> None:
        """Waits for all."""
        if self._child is None:
            return
        (pid, read), self._child = self._child, None
        with open(read, encoding="ascii") as lines:
            self._done.update(zip(self._begun, lines.read().splitlines(), strict=False))
        os.waitpid(pid, 0)


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
