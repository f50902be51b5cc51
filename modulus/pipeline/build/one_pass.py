"""Unpacks a driver's sources in the pass that reads its package's own texts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from modulus.core.package.members import Members
from modulus.core.package.vendor_manifest import parse_manifest
from modulus.host.archive.reader import Archive, Enough, Texts, all_of
from modulus.host.files import atomic
from modulus.host.files.place import writing
from modulus.host.report.reporter import Reporter

SCRATCH = "sources"
TEXT_BYTES = 16 << 20
"""The most that a package's own text may have."""


class OnePass:
    """The sources ``members`` of a package, unpacked below ``parent``; to be closed.

    ``read`` may be called by another thread than its owner's.
    """

    def __init__(self, parent: Path, members: Members) -> None:
        self._parent = parent
        self._members = members
        self._lock = threading.Lock()
        self._closed = False
        self._stack = contextlib.ExitStack()
        self._folder: Path | None = None
        self._found: Sequence[str] = ()
        with writing(parent):
            atomic.sweep(parent, SCRATCH)

    def read(
        self,
        archive: Archive,
        names: Collection[str],
        manifest: str | None,
        reporter: Reporter,
    ) -> Mapping[str, bytes]:
        """The members ``names`` of ``archive``, as far as there are any.

        The sources are unpacked on the way: those that the member ``manifest`` lists, or all.
        Raises what ``Archive.extract`` does, and ConfigError where they cannot be written.
        """
        # A member that is unpacked is not read.
        folder = None if any(map(self._members, names)) else self._begin()
        if folder is None:
            return archive.read(names, TEXT_BYTES)
        texts = Texts(names, TEXT_BYTES)
        enough: Enough | None = None

        def all_there(files: Sequence[str]) -> bool:
            nonlocal enough
            if enough is None and texts.complete:
                enough = all_of(self._listed(texts.found.get(manifest or "")))
            return enough is not None and enough(files)

        with writing(self._parent):
            found = archive.extract(
                folder, self._members, enough=all_there, texts=texts, reporter=reporter
            )
        self._folder, self._found = folder, found.files
        return texts.found

    def take(self, members: Members, listed: Collection[str], target: Path) -> bool:
        """Moves the sources to ``target``, an empty folder, or leaves it empty: False.

        ``members`` and ``listed`` are what is wanted now that the package is known.
        """
        if self._folder is None or not self._found or members != self._members:
            return False
        # A pass that went on for the texts may have unpacked more than the listed files, but
        # a build has the same sources whichever pass unpacked them.
        wanted = {*map(members, listed)}
        if wanted and not (wanted <= {*self._found} and self._found[-1] in wanted):
            return False
        self._folder.rename(target)
        target.chmod(0o755)
        return True

    def close(self) -> None:
        """Removes what was not taken; nothing is unpacked any more."""
        with self._lock:
            self._closed = True
            self._stack.close()

    def _listed(self, manifest: bytes | None) -> Collection[str]:
        if manifest is None:
            return ()
        return self._members.listed(parse_manifest(manifest.decode("utf-8", "replace")))

    def _begin(self) -> Path | None:
        """Where to unpack; None once it is closed, or where all is unpacked already."""
        with self._lock, writing(self._parent):
            if self._closed or self._folder:
                return None
            return self._stack.enter_context(atomic.scratch(self._parent, SCRATCH)) / "src"
