"""Chooses what to keep of a finished build for kernels with the same headers."""

from __future__ import annotations

import filecmp
import posixpath
import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path

from modulus.core.build import twin
from modulus.core.build.recipe import HEADERS_AT, WORK_AT
from modulus.core.build.twin import Survey
from modulus.host.files.data import regular_files

_ELF = b"\x7fELF"
_BITCODE = (b"BC\xc0\xde", b"\xde\xc0\x17\x0b")
"""How LLVM's bitcode begins, bare and in its wrapper: what clang compiles to for link-time
optimization. Texts in it may be packed in six bits (llvm.org/docs/BitCodeFormat.html)."""
# Limits, in bytes: the payload makes what a build leaves, and may be hostile. The vendors'
# largest objects have a hundred megabytes.
_MOST_FILE = 1 << 30
_MOST_ALL = 4 << 30
_MOST_TEXT = 16 << 20
_MOST_FILES = 100_000
_PART = 1 << 20


class UnfitError(Exception):
    """Why the objects of a build are of no use for another kernel."""


class Choice:
    """Which files of a build folder to keep, and which not."""

    def __init__(self, work: Path, sources: Path, headers: Path, release: str) -> None:
        self._work = work
        self._sources = sources
        self._headers = headers
        self._release = release
        self._made: frozenset[str] = frozenset()
        self.names: set[str] = set()
        self.left_out: set[str] = set()
        self.comments: set[str] = set()
        self._uses_name: Callable[[str], bool] = cache(self._look)

    def choose(self, survey: Survey, harmless: Sequence[re.Pattern[str]]) -> None:
        odd = twin.odd_headers(survey)
        if odd:
            raise UnfitError(f"the header {odd[0]} uses the release")
        made = regular_files(self._work)
        self._made = frozenset(islice(made, _MOST_FILES + 1))
        if len(self._made) > _MOST_FILES:
            raise UnfitError("the build left too many files")
        self.names = set(self._made)
        sizes = {name: (self._work / name).lstat().st_size for name in self.names}
        if max(sizes.values(), default=0) > _MOST_FILE or sum(sizes.values()) > _MOST_ALL:
            raise UnfitError("the build left too much")
        commands = {name for name in self.names if name.endswith(".o.cmd")}
        read: set[str] = set()
        compiled: set[str] = set()
        for name in sorted(commands):
            folder, _, last = name.rpartition("/")
            target = posixpath.join(folder, last.removeprefix(".").removesuffix(".cmd"))
            text = _text(self._work / name).decode("utf-8", "replace")
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
        """Sources that no object's list names may use the release only in known ways."""
        for name in regular_files(self._sources):
            # The file as make has it: a patch may have changed it.
            path = (self._work if name in self._made else self._sources) / name
            if name in read or _is_elf(path):
                continue
            odd = twin.odd_lines(_text(path), harmless)
            if odd:
                raise UnfitError(f"the driver's {name} uses the release: {odd[0][:80]}")

    def _check_made(self, name: str, compiled: bool, read: bool) -> None:
        """A file that the build has made must not tell the release."""
        path = self._work / name
        if compiled and _begins(path, *_BITCODE):
            raise UnfitError(f"{name} is LLVM's bitcode, in which no release can be looked for")
        if not _contains(path, self._release.encode()):
            return
        if not _is_elf(path) and twin.only_in_comments(_text(path), self._release):
            self.comments.add(name)
        elif compiled or read:
            raise UnfitError(f"{name} contains the release")
        else:
            self._leave_out(name)

    def _is_source(self, name: str) -> bool:
        source = self._sources / name
        return (
            source.is_file()
            and not source.is_symlink()
            and filecmp.cmp(source, self._work / name, shallow=False)
        )

    def _look(self, dependency: str) -> bool:
        """Whether a file that the compiler read uses the release; if in doubt it does."""
        # Relative to where kbuild runs: the kernel's folder, or since 6.13 the driver's.
        path = posixpath.normpath(posixpath.join(f"{HEADERS_AT}/build", dependency))
        inside = path.removeprefix(f"{HEADERS_AT}/")
        if inside != path:
            if twin.is_telling(inside):
                return False
            real = self._headers / inside
            if dependency.startswith("/") or real.exists():
                return not real.is_file() or twin.names_release(_text(real))
            path = f"{WORK_AT}/{posixpath.normpath(dependency)}"
        elif not path.startswith(f"{WORK_AT}/"):
            return False  # The toolchain's, whose digest is part of the family.
        # Only a regular file there counts: a link may lead anywhere.
        name = path.removeprefix(f"{WORK_AT}/")
        return name not in self._made or twin.names_release(_text(self._work / name))


def _is_elf(path: Path) -> bool:
    return _begins(path, _ELF)


def _begins(path: Path, *ways: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_ELF)) in ways


def _text(path: Path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(_MOST_TEXT + 1)
    if len(data) > _MOST_TEXT:
        raise UnfitError(f"{path.name} is too large for a text")
    return data


def _contains(path: Path, needle: bytes) -> bool:
    """Reads in parts: the page cache of a mapped file would count as this process's."""
    rest = b""
    with open(path, "rb", buffering=0) as file:
        while part := file.read(_PART):
            if needle in (data := rest + part):
                return True
            rest = data[-len(needle) :]
    return False


def _in_work(dependency: str) -> str:
    """The path of ``dependency`` in the build folder, if it is there."""
    return posixpath.normpath(dependency).removeprefix(f"{WORK_AT}/")
