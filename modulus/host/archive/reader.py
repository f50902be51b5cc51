"""Drivers as they are published: self-extracting archives, tars and .deb packages.

No package is ever executed. One pass reads as far as the wanted members go, and only those are
written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from tarfile import TarInfo
from typing import BinaryIO, Literal

from modulus.core.package.run_header import HEADER_BYTES, RunHeader, parse_header
from modulus.errors import IntegrityError
from modulus.host.archive.decompress import CHUNK, MAGIC_BYTES, Stretch, damaged, open_reader
from modulus.host.archive.untar import (
    ExtractLimits,
    Extractor,
    TarStream,
    clean,
    hostile,
    shown,
)
from modulus.host.files.atomic import scratch
from modulus.host.files.regular import open_regular
from modulus.host.report.reporter import Reporter

__all__ = ["Archive", "Enough", "ExtractLimits", "Extracted", "Texts", "all_of"]

_DEFAULT = ExtractLimits()
Enough = Callable[[Sequence[str]], bool]
"""Whether the unpacked members, given by name, are all that is needed."""
_PREAMBLE_BYTES = 64 << 20  # shell header and the decompressor some bring along
_PIECE = 1 << 20
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


@dataclass(frozen=True)
class Extracted:
    """What was written: files and symlinks in the archive's order, and bytes of data."""

    files: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class _Check:
    """A digest that the archive carries for all bytes from ``start`` on."""

    algorithm: Literal["md5", "sha256"]
    value: str
    start: int


class Texts:
    """Members that are read into memory in passing, by name; ``found`` are those that exist.

    A member of more than ``max_bytes`` is an IntegrityError.
    """

    def __init__(self, names: Collection[str], max_bytes: int) -> None:
        self.names = frozenset(names)
        self.max_bytes = max_bytes
        self.found: dict[str, bytes] = {}

    @property
    def complete(self) -> bool:
        """Whether all were found."""
        return len(self.found) == len(self.names)

    def take(self, name: str, member: TarInfo, stream: TarStream) -> bool:
        """Reads ``member`` if it is one of ``names``."""
        if name not in self.names or not member.isreg() or member.issparse():
            return False
        if member.size > self.max_bytes:
            raise hostile(f"{shown(name)} has {member.size} bytes")
        self.found[name] = b"".join(stream.data(member))
        return True


class Archive:
    """A published driver; ``format`` is a profile's: ``run``, or ``tar`` for the others.

    ``vouched``: a hash of the whole file was found right, so the weaker one in the archive adds
    nothing. Errors are IntegrityError for a damaged or hostile archive, and OSError.
    """

    def __init__(
        self,
        path: Path,
        format: Literal["run", "tar"],
        *,
        vouched: bool = False,
    ) -> None:
        self.path = path
        self.format = format
        self.vouched = vouched

    @cached_property
    def header(self) -> RunHeader | None:
        """What a ``run``'s shell header says; None for a ``tar``."""
        if self.format != "run":
            return None
        with self._file() as file:
            return parse_header(file.read(HEADER_BYTES))

    def extract(
        self,
        target: Path,
        select: Callable[[str], str | None],
        *,
        enough: Enough = lambda _: False,
        texts: Texts | None = None,
        limits: ExtractLimits = _DEFAULT,
        reporter: Reporter | None = None,
    ) -> Extracted:
        """Unpacks into ``target``, which is absent or empty and stays so on failure.

        ``select`` maps a member's name, without a leading ``./``, to its path below ``target``,
        or to None to leave it out. ``enough`` is asked at each member left out; once it is
        true, unpacking ends. ``texts`` are read from the members left out. Files become 0644,
        or 0755 where anyone may execute them. The archive's own digest is checked first, if it
        has one and is not ``vouched``.
        """
        if target.exists() and any(target.iterdir()):
            raise FileExistsError(f"{target} is not empty")
        with scratch(target.parent, target.name) as folder:
            with self._open(limits, reporter, check=not self.vouched) as stream:
                extractor = Extractor(folder, stream, limits)
                symlinks: set[str] = set()
                names: list[str] = []
                for member in stream:
                    name = clean(member.name)
                    if symlinks and any(parent in symlinks for parent in _parents(name)):
                        raise hostile(f"{shown(name)} lies beyond a symlink")
                    if member.issym():
                        symlinks.add(name)
                    if not name and not member.isdir():
                        raise hostile("a member has no name")
                    path = select(name) if name else None
                    if path is not None:
                        extractor.extract(member, name, clean(path))
                        names.append(name)
                        continue
                    if texts:
                        texts.take(name, member, stream)
                    if enough(names):
                        break
                else:
                    stream.finish()
            folder.chmod(0o755)
            folder.rename(target)
        return Extracted(tuple(extractor.files), extractor.bytes)

    def read(self, names: Collection[str], max_bytes: int) -> dict[str, bytes]:
        """The contents of the regular members ``names`` that exist, by name, in one pass.

        Reading stops when all are found, before any digest could be checked. A member of more
        than ``max_bytes`` is an IntegrityError.
        """
        texts = Texts(names, max_bytes)
        with self._open(_DEFAULT, None, check=False) as stream:
            for member in stream:
                if texts.take(clean(member.name), member, stream) and texts.complete:
                    return texts.found
            stream.finish()
        return texts.found

    @contextlib.contextmanager
    def _open(
        self, limits: ExtractLimits, reporter: Reporter | None, *, check: bool
    ) -> Iterator[TarStream]:
        """The tar inside; with ``check``, its digests have been found right."""
        with self._file() as file:
            start, size, checks = self._locate(file)
            for known in checks if check else ():
                file.seek(known.start)
                _hold(file, known)
            file.seek(start)
            magic = file.read(MAGIC_BYTES)
            file.seek(start)

            def progress(done: int) -> None:
                if reporter is not None:
                    reporter.progress("unpack", done, size, "B")

            source = Stretch(file, size, progress)
            yield TarStream(open_reader(magic, source), source, limits)
            if source.done < size:
                progress(size)

    def _file(self) -> BufferedReader:
        return BufferedReader(open_regular(self.path))

    def _locate(self, file: BinaryIO) -> tuple[int, int, tuple[_Check, ...]]:
        """Where the tar's first byte is, how many follow, and their digests."""
        end = os.fstat(file.fileno()).st_size
        header = self.header
        if header is not None:
            start = _line_start(file, header.payload_line)
            checks = []
            if header.md5:
                first = _line_start(file, header.md5_line)
                checks.append(_Check("md5", header.md5, first))
            if header.sha256:
                checks.append(_Check("sha256", header.sha256, start))
            return start, end - start, tuple(checks)
        if file.read(len(_AR_MAGIC)) == _AR_MAGIC:
            return (*_package_data(file, end), ())
        return 0, end, ()


def all_of(listed: Collection[str]) -> Enough:
    """Whether all of ``listed`` are there; never, if ``listed`` is empty."""
    awaited, seen = set(listed), 0

    def enough(names: Sequence[str]) -> bool:
        nonlocal seen
        awaited.difference_update(names[seen:])
        seen = len(names)
        return bool(listed) and not awaited

    return enough


def _hold(file: BinaryIO, known: _Check) -> None:
    """Raises IntegrityError unless the rest of ``file`` has the digest ``known``."""
    digest = hashlib.new(known.algorithm, usedforsecurity=False)
    while piece := file.read(_PIECE):
        digest.update(piece)
    if digest.hexdigest() != known.value:
        raise damaged(f"its own {known.algorithm} sum does not hold")


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _line_start(file: BinaryIO, line: int) -> int:
    """The offset of a line's first byte; lines count from 1."""
    file.seek(0)
    left, at = line - 1, 0
    while left and at < _PREAMBLE_BYTES and (data := file.read(CHUNK)):
        if (newlines := data.count(b"\n")) < left:
            left -= newlines
            at += len(data)
            continue
        place = -1
        for _ in range(left):
            place = data.index(b"\n", place + 1)
        return at + place + 1
    if left:
        raise damaged(f"it has no line {line}, where its payload should begin")
    return 0


def _package_data(file: BinaryIO, end: int) -> tuple[int, int]:
    """Where a .deb (deb(5), an ar archive) has its files: offset and size of data.tar."""
    at = len(_AR_MAGIC)
    while at + _AR_HEADER <= end:
        file.seek(at)
        header = file.read(_AR_HEADER)
        size = header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            break
        at += _AR_HEADER
        if header[:16].startswith(b"data.tar"):
            if at + int(size) > end:
                raise damaged("the package ends in the middle")
            return at, int(size)
        at += int(size) + int(size) % 2
    raise IntegrityError(
        "the package has no data.tar", "remove the download and fetch it again"
    )
