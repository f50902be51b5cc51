"""Puts modules into a store: as patches against what it has, else whole, as objects."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from modulus.core.store.manifest import StoredFile
from modulus.host.archive.decompress import Reader
from modulus.host.store.delta import make_patch
from modulus.host.store.entry import Stored
from modulus.host.store.objects import Hashed, Objects

_WORTH = 8
"""A patch is taken where it is so many times smaller than the module. Between series of kernels
it is some twenty times smaller, between neighbours some thousand times; of other code it is no
smaller than plain compression, which is never this good with code."""
_TRIES = 3


def pack(
    file: StoredFile, source: Path, entry: Path, objects: Objects, bases: Iterable[str]
) -> str:
    """Stores the module at ``source`` for the entry in the folder ``entry``.

    Returns the ``object`` that it then is, or that its patch is against: one of ``bases``,
    objects that may be alike, the likeliest first. A patch counts once it was read back right.
    Raises IntegrityError where ``source`` is not ``file``.
    """
    if objects.is_sound(file.sha256):
        return file.sha256
    others = (base for base in bases if base != file.sha256)
    for base in islice(others, _TRIES):
        patched = replace(file, object=base)
        made = entry / str(patched.patch)
        if (
            _write_patch(source, made, objects, base, file.size // _WORTH)
            and Stored(patched, entry, objects).damage() is None
        ):
            return base
        made.unlink(missing_ok=True)
    objects.add(file.sha256, source)
    return file.sha256


def _write_patch(source: Path, target: Path, objects: Objects, base: str, limit: int) -> bool:
    """False where it would be too large, or ``base`` is damaged or cannot be read."""
    digest = hashlib.sha256()
    try:
        with (
            open(source, "rb") as new,
            _opened(objects, base) as content,
            open(target, "wb") as made,
        ):
            hashed = Hashed(content, digest)
            return make_patch(new, hashed, made, limit) and digest.hexdigest() == base
    except _BaseError:
        return False


class _BaseError(Exception):
    """A base is of no use."""


class _Base:
    """A base whose read errors are told apart from those of the written patch."""

    def __init__(self, content: Reader) -> None:
        self._content = content

    def read(self, limit: int) -> bytes:
        try:
            return self._content.read(limit)
        except (OSError, ValueError) as error:
            raise _BaseError from error


@contextlib.contextmanager
def _opened(objects: Objects, base: str) -> Iterator[_Base]:
    with contextlib.ExitStack() as stack:
        try:
            content = stack.enter_context(objects.open(base))
        except (OSError, ValueError) as error:
            raise _BaseError from error
        yield _Base(content)
