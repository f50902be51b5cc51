"""Takes a tar apart as it streams by, trusting nothing it says.

The standard library reads the headers; this module bounds memory and checks names, links and
modes. It writes only regular files, folders and symlinks that stay inside.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from modulus.errors import IntegrityError
from modulus.host.archive.decompress import CHUNK, Reader, Stretch, damaged

_BLOCK = tarfile.BLOCKSIZE
_HEADER_BYTES = 16 << 10  # of all headers of one member: long names, extended attributes
_GLOBAL_KEYS = 100  # that pax global headers may set; real ones set one or two
_RATIO_FLOOR = 64 << 20  # bytes; a small archive may well be mostly zeros
_MALFORMED = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)


@dataclass(frozen=True)
class ExtractLimits:
    """The bounds of a believable archive; ``total`` and ``member`` are bytes of plain data.

    Real drivers have some 1.5 GB in 2,000 members, a tenth of that in one, at about 5:1.
    """

    total: int = 8 << 30
    member: int = 2 << 30
    members: int = 100_000
    ratio: int = 250


class _TarFile(tarfile.TarFile):
    """A TarFile with the attributes that typeshed leaves out."""

    firstmember: tarfile.TarInfo | None
    members: list[tarfile.TarInfo]


class TarStream:
    """The members of a tar, in order; also the file object that tarfile reads headers from."""

    def __init__(self, reader: Reader, source: Stretch, limits: ExtractLimits) -> None:
        self._reader = reader
        self._source = source
        self._limits = limits
        self._buffer = memoryview(b"")
        self._position = 0
        self._plain = 0
        self._header_left = _HEADER_BYTES
        self._block = b""

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Each member; its data can be read until the next one is taken."""
        count = 0
        try:
            tar = _TarFile(
                fileobj=cast(IO[bytes], self), encoding="utf-8", errors="surrogateescape"
            )
        except _MALFORMED as error:
            raise damaged(str(error)) from None
        if tar.firstmember is None and self._block != bytes(_BLOCK):
            # Newer versions of tarfile pass over a bad first header in silence.
            raise damaged("its first header is none")
        while (member := self._next(tar)) is not None:
            count += 1
            if count > self._limits.members:
                raise hostile(f"it has more than {self._limits.members} members")
            yield member

    def _next(self, tar: _TarFile) -> tarfile.TarInfo | None:
        self._header_left = _HEADER_BYTES
        try:
            member = tar.next()
        except _MALFORMED as error:
            raise damaged(str(error)) from None
        tar.members = []  # tarfile would keep them all.
        if len(tar.pax_headers) > _GLOBAL_KEYS:
            raise hostile("its global headers are absurdly long")
        if member is not None and member.size < 0:
            raise damaged("a member has a negative size")
        return member

    def data(self, member: tarfile.TarInfo) -> Iterator[memoryview]:
        """The member's bytes, in pieces."""
        self.seek(member.offset_data)
        left = member.size
        while left:
            piece = self._take(left)
            if not piece:
                raise damaged("it ends in the middle of a member")
            left -= len(piece)
            yield piece

    def finish(self) -> None:
        """Reads on to the end. Raises IntegrityError unless the tar ended with its mark.

        tarfile takes a wrong header, or a cut file, for the end.
        """
        if self._block != bytes(_BLOCK):
            raise damaged("it ends without the mark of a tar's end")
        while self._fill():
            pass

    # The methods that tarfile calls.

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise damaged("a member lies before its header")
        while (left := position - self._position) and self._take(left):
            pass

    def read(self, size: int) -> bytes:
        self._header_left -= size
        if self._header_left < 0:
            raise hostile("a member's headers are absurdly long")
        data = bytes(self._take(size))
        while len(data) < size and (more := self._take(size - len(data))):
            data += more
        if size == _BLOCK:
            self._block = data
        return data

    def _take(self, limit: int) -> memoryview:
        """The next bytes, at most ``limit`` and perhaps fewer; none at the end."""
        if not self._buffer and not self._fill():
            return self._buffer
        piece, self._buffer = self._buffer[:limit], self._buffer[limit:]
        self._position += len(piece)
        return piece

    def _fill(self) -> bool:
        self._buffer = memoryview(self._reader.read(CHUNK))
        self._plain += len(self._buffer)
        if self._plain > self._limits.total:
            raise hostile(f"it unpacks to more than {self._limits.total >> 20} MiB")
        if self._plain > max(_RATIO_FLOOR, self._limits.ratio * self._source.done):
            raise hostile(f"it unpacks to more than {self._limits.ratio} times its size")
        return bool(self._buffer)


class Extractor:
    """Writes members below ``folder``, a private and empty one."""

    def __init__(self, folder: Path, stream: TarStream, limits: ExtractLimits) -> None:
        self._folder = folder
        self._stream = stream
        self._limits = limits
        self._now = time.time()
        self._kinds: dict[str, str] = {"": "folder"}  # by path below folder
        self._written: dict[str, str] = {}  # the path of each regular member, by name
        self.files: list[str] = []
        self.bytes = 0

    def extract(self, member: tarfile.TarInfo, name: str, path: str) -> None:
        """Writes ``member``, whose clean name is ``name``, at the clean ``path``."""
        if member.isdir():
            self._make_folder(path)
            return
        if self._kinds.get(path):
            raise hostile(f"two members are {shown(path)}")
        self._make_folder(path.rpartition("/")[0])
        if member.issym():
            self._symlink(member, path)
        elif member.islnk():
            self._hard_link(member, path)
            self._written[name] = path
        elif member.isreg() and not member.issparse():
            self._write(member, path)
            self._written[name] = path
        else:
            raise hostile(f"{shown(name)} is neither file, folder nor link")
        self.files.append(path)

    def _make_folder(self, path: str) -> None:
        kind = self._kinds.get(path)
        if kind == "folder":
            return
        if kind:
            raise hostile(f"{shown(path)} is a {kind} and a folder")
        self._make_folder(path.rpartition("/")[0])
        folder = Path(self._at(path))
        folder.mkdir()
        folder.chmod(0o755)
        self._kinds[path] = "folder"

    def _write(self, member: tarfile.TarInfo, path: str) -> None:
        self._grow(member.size)
        self._kinds[path] = "file"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(self._at(path), flags, 0o600), "wb", buffering=0) as file:
            for piece in self._stream.data(member):
                while piece:
                    piece = piece[file.write(piece) :]
            os.fchmod(file.fileno(), 0o755 if member.mode & 0o111 else 0o644)
            mtime = member.mtime if 0 <= member.mtime <= self._now else self._now
            os.utime(file.fileno(), (mtime, mtime))

    def _hard_link(self, member: tarfile.TarInfo, path: str) -> None:
        """Makes a copy, so that a change to one file never changes two."""
        other = self._written.get(clean(member.linkname))
        if other is None:
            raise hostile(f"{shown(path)} is a hard link to a file that is not unpacked")
        self._grow(os.stat(self._at(other)).st_size)
        self._kinds[path] = "file"
        shutil.copy2(self._at(other), self._at(path))

    def _symlink(self, member: tarfile.TarInfo, path: str) -> None:
        """Makes a symlink that stays inside, whatever other symlinks it leads through.

        Its own folder is a real one, so leading ``..`` parts are safe; a later one could follow
        another symlink.
        """
        parts = [part for part in member.linkname.split("/") if part not in ("", ".")]
        up = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
        if (
            not member.linkname
            or member.linkname.startswith("/")
            or "\0" in member.linkname
            or ".." in parts[up:]
            or up > path.count("/")
            or len(os.fsencode(member.linkname)) > 1024
        ):
            raise hostile(f"the symlink {shown(path)} leads to {shown(member.linkname)}")
        self._kinds[path] = "symlink"
        os.symlink(member.linkname, self._at(path))

    def _grow(self, size: int) -> None:
        if size > self._limits.member:
            raise hostile(f"a member has more than {self._limits.member >> 20} MiB")
        self.bytes += size
        if self.bytes > self._limits.total:  # hard links multiply what was streamed
            raise hostile(f"it unpacks to more than {self._limits.total >> 20} MiB")

    def _at(self, path: str) -> str:
        return f"{self._folder}/{path}"


def clean(name: str) -> str:
    """``name`` without ``.`` and empty parts; raises IntegrityError where it leads outside."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if (
        name.startswith("/")
        or ".." in parts
        or "\0" in name
        or any(len(os.fsencode(part)) > 255 for part in parts)
        or len(os.fsencode(name)) > 1024
    ):
        raise hostile(f"a member is named {shown(name)}")
    return "/".join(parts)


def shown(name: str) -> str:
    """A hostile name on one line."""
    return ascii(name[:80] + ("…" if len(name) > 80 else ""))


def hostile(why: str) -> IntegrityError:
    """The error for an archive that no honest tool would have written."""
    return IntegrityError(
        f"the archive is refused: {why}", "get the driver from its vendor; do not use this file"
    )
