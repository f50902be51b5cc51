"""A partial file in downloads/, which outlives the process that fetches it.

``.part-ID`` holds the bytes, ``.part-ID.json`` says what they are the beginning of. The lock is
flock(2) on ``.part-ID``: a killed fetch leaves only what the next one continues from.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.host.files import atomic
from modulus.host.files.lock import acquire
from modulus.host.files.record import read_record
from modulus.host.report.reporter import Reporter

_CHUNK = 1 << 20
HEAD = 512
"""So many of the first bytes of a file tell what it is."""


@dataclass(frozen=True)
class Origin:
    """What a partial file is the beginning of.

    ``url`` has no secrets in it, ``etag`` is what If-Range can name (a strong ETag or a date),
    and ``size`` is the whole file's in bytes.
    """

    url: str
    etag: str | None
    size: int | None


class Partial:
    """A partial file that this process alone writes, with the sha256 of all it holds.

    ``size`` is in bytes. ``pieced`` says that they came in several transfers, so that a wrong
    hash may not be the last one's fault.
    """

    def __init__(self, path: Path, handle: int, *, resume: bool) -> None:
        self.path = path
        self.size = 0
        self.pieced = False
        self.origin: Origin | None = None
        self._handle = handle
        self._digest = hashlib.sha256()
        origin = _read_origin(self._sidecar) if resume else None
        if origin and os.fstat(handle).st_size:
            while chunk := os.read(handle, _CHUNK):
                self._account(chunk)
            self.origin, self.pieced = origin, True
        else:
            os.ftruncate(handle, 0)

    @property
    def _sidecar(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def sha256(self) -> str:
        """The sha256 of the bytes so far."""
        return self._digest.hexdigest()

    def restart(self) -> None:
        """Empties the file."""
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        self.size, self._digest = 0, hashlib.sha256()
        self.origin, self.pieced = None, False

    def describe(self, origin: Origin) -> None:
        """Records what the file is the beginning of; call it before the first byte."""
        self.origin, self.pieced = origin, self.size > 0
        atomic.write_json(self._sidecar, asdict(origin), 0o600)

    def append(self, chunk: bytes) -> None:
        """Adds the next bytes."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._handle, view) :]
        self._account(chunk)

    def _account(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)

    def commit(self) -> Path:
        """Renames the file to its sha256, durably; returns the new path."""
        final = self.path.with_name(self.sha256)
        os.fchmod(self._handle, 0o644)
        os.fsync(self._handle)
        os.rename(self.path, final)
        atomic.fsync_dir(final.parent)
        self._sidecar.unlink(missing_ok=True)
        return final

    def discard(self) -> None:
        """Removes the file."""
        self._sidecar.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def held(
    folder: Path,
    ident: str,
    what: str,
    reporter: Reporter,
    timeout: float | None,
    *,
    resume: bool,
) -> Iterator[Partial]:
    """The partial file ``ident`` below ``folder``, once no other process has it.

    ``timeout`` is in seconds, None waits for ever. With ``resume`` the file begins with what
    an earlier process left, and a hash must judge it in the end; else it begins empty. A file
    left empty is removed. Raises LockedError when the time is up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".part-{ident}"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        handle = os.open(path, flags, 0o600)
        try:
            acquire(handle, what, reporter, timeout, fcntl.LOCK_EX)
            if not _is(handle, path):
                continue  # The last holder committed or discarded it.
            part = Partial(path, handle, resume=resume)
            try:
                yield part
            finally:
                if not part.size and _is(handle, path):
                    part.discard()
            return
        finally:
            os.close(handle)


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _read_origin(path: Path) -> Origin | None:
    return read_record(path, _parse)


def _parse(value: object) -> Origin:
    of = Fields(value, "what a partial download is the beginning of")
    return Origin(
        of("url", forms.line),
        of("etag", forms.optional(forms.line)),
        of("size", forms.optional(forms.count)),
    )


_HTML = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body)\b", re.I
)


_MAGIC = (b"#!", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh", b"!<arch>\n")
"""How archives begin: a .run, gzip, xz, zstd, bzip2, a .deb."""


def looks_like_package(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is an archive, packed or a plain tar."""
    return head.startswith(_MAGIC) or head[257:262] == b"ustar"


def looks_like_html(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a page for a browser."""
    return bool(_HTML.match(head))
