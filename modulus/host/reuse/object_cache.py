"""What a compile leaves for kernels whose headers are the same but for the release.

``compiled/FAMILY/TWIN/`` has the build folder of a finished build, less the files that tell the
release (``core.build.twin`` has the rule), in ``objects.tar.zst``, a manifest with the hashes,
and the header tree's short digests. Its large files, such as a vendor's binary, are in
``compiled/blobs/SHA256.zst``, once for all kernels. All of it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modulus.core.build import twin
from modulus.core.build.revoked import revoked
from modulus.core.build.twin import Survey
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.store.keys import digest
from modulus.errors import IntegrityError
from modulus.host.archive.reader import Archive
from modulus.host.archive.write_tar import write_tar
from modulus.host.files import atomic
from modulus.host.files.digest import hash_file
from modulus.host.files.full_disk import is_full
from modulus.host.files.record import load_record, read_record
from modulus.host.files.regular import read_bytes
from modulus.host.report.clock import rfc3339
from modulus.host.reuse import header_digest, reuse_rules
from modulus.host.reuse.blobs import Blobs
from modulus.host.reuse.header_digest import read_listing, write_listing
from modulus.host.reuse.reuse_rules import Choice

FOLDER = "compiled"
_SCHEMA = 2
_BLOB = 1 << 20
"""Bytes from which on a file is kept once for all kernels."""


def rule_digest() -> str:
    """A digest of the rule by which objects are kept and used again: of its code.

    So a change of the code counts as one of the rule, and nobody has to remember it.
    """
    code = (twin.__file__, reuse_rules.__file__, header_digest.__file__, __file__)
    return digest([hash_file(Path(path)) for path in code])


@dataclass(frozen=True)
class Blob:
    """A large file of the build folder: its path there, and the sha256 of its content."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Kept:
    """Kept objects at ``path``, compiled for ``release`` by ``recipe``.

    ``comments`` are files with the release in a comment, which makefiles compare. ``archive``
    is the sha256 of ``objects.tar.zst``.
    """

    path: Path
    release: str
    recipe: str
    archive: str
    blobs: tuple[Blob, ...]
    comments: tuple[str, ...]


class KeptObjects:
    """The kept objects of one cache; the caller keeps a clean-up out."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / FOLDER
        self._blobs = Blobs(self.folder / "blobs")

    def any(self) -> bool:
        """Whether there are objects of any family."""
        return any(self.folder.glob("*/*/manifest.json"))

    def has(self, family: str) -> bool:
        """Whether ``family`` has objects to compare with."""
        return (self.folder / family).is_dir()

    def find(self, family: str, survey: Survey) -> Kept | None:
        """The objects of a twin, by its manifest; nothing is hashed yet."""
        return _read(self.folder / family / survey.digest)

    def nearest(self, family: str, survey: Survey) -> tuple[Kept, str] | None:
        """The objects whose headers are the most similar, and in what these differ."""
        return twin.nearest(survey.files, self._listings(family))

    def restore(self, kept: Kept, work: Path, release: str) -> None:
        """Lays the build folder out in the empty ``work``, for ``release``.

        IntegrityError where anything is not what was kept; OSError for a full disk.
        """
        archive = kept.path / "objects.tar.zst"
        try:
            if hash_file(archive) != kept.archive:
                raise IntegrityError("the kept objects are damaged", "build it again")
            Archive(archive, "tar").extract(work, lambda name: name)
            for blob in kept.blobs:
                self._blobs.write(blob.sha256, work / blob.path)
            for name in kept.comments:
                path = work / name
                text = read_bytes(path, follow=False)
                path.write_bytes(text.replace(kept.release.encode(), release.encode()))
            # For make: all files are equally old, and newer than the headers.
            now = time.time_ns()
            for folder, _, names in os.walk(work):
                for name in names:
                    os.utime(os.path.join(folder, name), ns=(now, now), follow_symlinks=False)
            self._used(kept)
        except OSError as error:
            if is_full(error):
                raise
            raise IntegrityError(
                f"the kept objects cannot be used ({error.strerror})", "build it again"
            ) from error

    def useless(self) -> Iterator[Path]:
        """The folders of objects that nothing can use any more: those of another schema or by
        a revoked recipe, and damaged ones."""
        for path in sorted(self.folder.glob("*/*/manifest.json")):
            try:
                kept = _load(path.parent)
            except ValueError:
                yield path.parent
                continue
            if revoked(kept.recipe) is not None:
                yield path.parent

    def remove_of(self, recipe: str) -> None:
        """Removes all objects compiled by ``recipe``."""
        for path in sorted(self.folder.glob("*/*/manifest.json")):
            kept = _read(path.parent)
            if kept and kept.recipe == recipe:
                atomic.remove_tree(path.parent)

    def remove(self, kept: Kept) -> None:
        """Removes objects that are of no use."""
        atomic.remove_tree(kept.path)

    def keep(
        self,
        family: str,
        survey: Survey,
        release: str,
        *,
        recipe: str,
        work: Path,
        sources: Path,
        headers: Path,
        harmless: Sequence[re.Pattern[str]],
    ) -> Path:
        """Keeps the build folder ``work`` of a finished build of ``sources`` by ``recipe``.

        UnfitError where it is of no use for another kernel; OSError.
        """
        final = self.folder / family / survey.digest
        if (final / "manifest.json").exists():
            return final
        chosen = Choice(work, sources, headers, release)
        chosen.choose(survey, harmless)
        blobs = [name for name in chosen.names if (work / name).lstat().st_size >= _BLOB]
        atomic.sweep(self.folder, "new")
        with atomic.scratch(self.folder, "new") as scratch:
            entry = scratch / "entry"
            entry.mkdir()
            large = [
                {"path": name, "sha256": self._blobs.add(work / name, scratch)}
                for name in blobs
            ]
            write_tar(entry / "objects.tar.zst", work, sorted({*chosen.names} - {*blobs}))
            write_listing(entry / "headers.zst", survey.files)
            manifest = {
                "schema": _SCHEMA,
                "release": release,
                "recipe": recipe,
                "archive": hash_file(entry / "objects.tar.zst"),
                "blobs": large,
                "comments": sorted(chosen.comments),
                "left_out": sorted(chosen.left_out),
                "created": rfc3339(time.time()),
            }
            atomic.write_json(entry / "manifest.json", manifest)
            atomic.remove_tree(final)
            atomic.commit_tree(entry, final)
        return final

    def _listings(self, family: str) -> Iterator[tuple[Kept, Mapping[str, str]]]:
        for path in sorted((self.folder / family).glob("*/manifest.json")):
            with contextlib.suppress(ValueError, OSError):
                kept = _read(path.parent)
                if kept:
                    yield kept, read_listing(path.parent / "headers.zst")

    def _used(self, kept: Kept) -> None:
        """Marks the objects and their blobs as used now: the longest unused go first."""
        blobs = (self._blobs.path(blob.sha256) for blob in kept.blobs)
        for path in (kept.path / "manifest.json", *blobs):
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)


def _load(path: Path) -> Kept:
    return load_record(path / "manifest.json", lambda value: _parse(path, value))


def _read(path: Path) -> Kept | None:
    return read_record(path / "manifest.json", lambda value: _parse(path, value))


def _parse(path: Path, value: object) -> Kept:
    """The kept objects of a manifest; ValueError for anything else."""
    of = Fields(value, "the manifest of kept objects")
    of("schema", forms.exactly(_SCHEMA))
    return Kept(
        path=path,
        release=of("release", forms.release),
        recipe=of("recipe", forms.word),
        archive=of("archive", forms.sha256),
        blobs=of("blobs", forms.list_of(_blob)),
        comments=of("comments", forms.list_of(forms.relative)),
    )


def _blob(value: object) -> Blob:
    of = Fields(value, "a blob")
    return Blob(of("path", forms.relative), of("sha256", forms.sha256))
