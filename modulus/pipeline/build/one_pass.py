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

    ``what`` names them in the journal. ``read`` may run in another thread than its owner's.
    """

    def __init__(self, parent: Path, members: Members, what: str) -> None:
        self._parent = parent
        self._members = members
        self._what = what
        self._lock = threading.Lock()
        self._closed = False
        self._held = contextlib.ExitStack()
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
        Raises what ``Archive.extract`` does, ConfigError where they cannot be written, and
        BuildError for a full disk.
        """
        if any(map(self._members, names)):
            # An unpacked member is not read.
            return archive.read(names, TEXT_BYTES)
        reporter.phase("unpack", self._what)
        texts = Texts(names, TEXT_BYTES)
        enough: Enough | None = None

        def all_there(files: Sequence[str]) -> bool:
            nonlocal enough
            if enough is None and texts.complete:
                enough = all_of(self._listed(texts.found.get(manifest or "")))
            return enough is not None and enough(files)

        with writing(self._parent), contextlib.ExitStack() as scratch:
            folder = scratch.enter_context(atomic.scratch(self._parent, SCRATCH)) / "src"
            found = archive.extract(
                folder, self._members, enough=all_there, texts=texts, reporter=reporter
            )
            with self._lock:
                # The owner removes only what it has: a closed one has this thread do it.
                if not self._closed and self._folder is None:
                    self._held, self._folder = scratch.pop_all(), folder
                    self._found = found.files
        return texts.found

    def take(self, members: Members, listed: Collection[str], target: Path) -> bool:
        """Makes ``target``, an empty folder, what was unpacked, or leaves it empty.

        ``members`` and ``listed`` are what is wanted now that the package is known.
        """
        if self._folder is None or not self._found or members != self._members:
            return False
        # Where the texts come behind all that is listed, more was unpacked than by a pass that
        # looks for no texts: a build has the same sources either way.
        wanted = {*map(members, listed)}
        if wanted and not (wanted <= {*self._found} and self._found[-1] in wanted):
            return False
        self._folder.rename(target)
        target.chmod(0o755)
        self._folder = None
        return True

    def close(self) -> None:
        """Removes what was not taken. A ``read`` that is under way removes its own."""
        with self._lock:
            self._closed = True
            self._held.close()

    def _listed(self, manifest: bytes | None) -> Collection[str]:
        if manifest is None:
            return ()
        return self._members.listed(parse_manifest(manifest.decode("utf-8", "replace")))
