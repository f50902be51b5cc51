"""Chooses what to keep of a finished build for kernels with the same headers."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from modulus.core import twin
from modulus.core.recipe import HEADERS_AT, WORK_AT
from modulus.core.twin import Survey

_ELF = b"\x7fELF"


class UnfitError(Exception):
    """Why the objects of a build are of no use for another kernel."""


class Choice:
    """Which files of a build folder to keep, and why not."""

    def __init__(self, work: Path, sources: Path, headers: Path, release: str) -> None:
        self._work = work
        self._sources = sources
        self._headers = headers
        self._release = release
        self.names: set[str] = set()
        self.left_out: set[str] = set()
        self.comments: set[str] = set()
        self._uses_name: Callable[[str], bool] = cache(self._look)

    def choose(self, survey: Survey, harmless: Sequence[re.Pattern[str]]) -> None:
        odd = twin.odd_headers(survey)
        if odd:
            raise UnfitError(f"the header {odd[0]} uses the release")
        self.names = set(_regular(self._work))
        commands = {name for name in self.names if name.endswith(".o.cmd")}
        read: set[str] = set()
        compiled: set[str] = set()
        for name in sorted(commands):
            folder, _, last = name.rpartition("/")
            target = posixpath.join(folder, last.removeprefix(".").removesuffix(".cmd"))
            text = (self._work / name).read_text("utf-8", "replace")
            dependencies = twin.files_read(text)
            if twin.is_remade(name):
                continue
            if dependencies is None or any(map(self._uses_name, dependencies)):
                self._leave_out(name, target)
            else:
                compiled.add(target)
            read.update(map(_in_work, dependencies or ()))
        self._leave_out(*(n for n in self.names if twin.is_remade(n.rpartition("/")[2])))
        self._check_sources(read, harmless)
        for name in sorted(self.names):
            if not self._is_source(name):
                self._check_made(name, name in compiled, name in read)

    def _leave_out(self, *names: str) -> None:
        self.left_out.update(names)
        self.names.difference_update(names)

    def _check_sources(self, read: set[str], harmless: Sequence[re.Pattern[str]]) -> None:
        """What no object's list tells of may ask for the release only as is known."""
        for name in _regular(self._sources):
            with open(self._sources / name, "rb") as file:
                if name in read or file.read(len(_ELF)) == _ELF:
                    continue
                file.seek(0)
                odd = twin.odd_lines(file.read(), harmless)
            if odd:
                raise UnfitError(f"the driver's {name} uses the release: {odd[0][:80]}")

    def _check_made(self, name: str, compiled: bool, read: bool) -> None:
        """What the build has made must not tell the release."""
        data = (self._work / name).read_bytes()
        if self._release.encode() not in data:
            return
        if twin.only_in_comments(data, self._release):
            self.comments.add(name)
        elif compiled or read:
            raise UnfitError(f"{name} contains the release")
        else:
            self._leave_out(name)

    def _is_source(self, name: str) -> bool:
        try:
            status = (self._sources / name).lstat()
        except OSError:
            return False
        size = (self._work / name).lstat().st_size
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    def _look(self, dependency: str) -> bool:
        """Whether a file that the compiler read uses the release; if in doubt it does."""
        # Relative ones are so to where kbuild runs: the kernel's folder, or since 6.13 ours.
        path = posixpath.normpath(posixpath.join(f"{HEADERS_AT}/build", dependency))
        inside = path.removeprefix(f"{HEADERS_AT}/")
        if inside != path:
            if twin.is_telling(inside):
                return False
            real = self._headers / inside
            if not dependency.startswith("/") and not real.exists():
                real = self._work / posixpath.normpath(dependency)
        elif path.startswith(f"{WORK_AT}/"):
            real = self._work / path.removeprefix(f"{WORK_AT}/")
        else:
            return False  # The toolchain's, whose digest is part of the family.
        try:
            return twin.names_release(real.read_bytes())
        except OSError:
            return True


def _in_work(dependency: str) -> str:
    """Its path in the build folder, if it is there."""
    return posixpath.normpath(dependency).removeprefix(f"{WORK_AT}/")


def _regular(folder: Path) -> Iterator[str]:
    """The regular files below ``folder``; links are made again by whoever needs them."""
    cut = len(str(folder)) + 1
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path[cut:]
