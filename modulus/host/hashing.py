"""Hashes modules while other work goes on: most of a warm start without it is imports."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

from modulus.errors import ModulusError
from modulus.host import files, sysfs
from modulus.host.place import DRIVERS, below


class Hashes:
    """The sha256 of files; those of ``paths`` are begun in a thread, in order."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._begun = {path: threading.Event() for path in paths}
        self._done: dict[Path, str] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)
        if self._begun:
            self._thread.start()

    def _work(self) -> None:
        for path, ended in self._begun.items():
            # Who asks for one that cannot be read finds out himself.
            with contextlib.suppress(OSError):
                self._done[path] = files.sha256_file(path)
            ended.set()

    def sha256(self, path: Path) -> str:
        """The hash of ``path`` in hexadecimal, waited for if it is under way."""
        if path in self._begun:
            self._begun[path].wait()
        return self._done.get(path) or files.sha256_file(path)

    def settle(self) -> None:
        """Waits for all; call it before other processes are started, which is a fork."""
        for ended in self._begun.values():
            ended.wait()


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
