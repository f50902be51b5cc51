"""Unpacks a driver's sources while its package is still coming.

Into a scratch folder, and what the package says of itself into memory. What is there counts
once the hash of the package holds, of whose very bytes it is; else it goes, and the package is
read as if there had been nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from modulus.errors import ModulusError
from modulus.host.archive.growing import Growth, LostError
from modulus.host.archive.reader import Archive, Enough, Texts, all_of
from modulus.host.files import atomic
from modulus.host.files.place import writing

SCRATCH = "early"
TEXT_BYTES = 16 << 20
"""What a package may say of itself."""

Select = Callable[[str], str | None]
"""Where a member of the package goes, or None for one that is left out."""


class Early:
    """The sources that ``select`` chooses, unpacked below ``parent``; to be closed.

    ``begins`` is called by whichever thread fetches, the rest by the owner's. Members of the
    names ``texts`` are read.
    """

    def __init__(self, parent: Path, select: Select, texts: Collection[str] = ()) -> None:
        self._parent = parent
        self._select = select
        self._texts = texts
        self._lock = threading.Lock()
        self._attempt: _Attempt | None = None
        self._closed = False
        with writing(parent):
            atomic.sweep(parent, SCRATCH)

    def begins(self, path: Path, format: str) -> Growth:
        """A package begins to come, in the place of what came before."""
        growth = Growth()
        with self._lock:
            self._drop()
            if not self._closed:
                # Without room for it, or for a thread (RuntimeError), nothing is early.
                with contextlib.suppress(OSError, RuntimeError):
                    self._attempt = _Attempt(
                        self._parent, self._select, self._texts, path, format, growth
                    )
        return growth

    def read(self, names: Collection[str]) -> Mapping[str, bytes] | None:
        """What a package that has come has of the members ``names``; None if unknown."""
        # What is unpacked is not read.
        known = {*names} <= {*self._texts} and not any(map(self._select, names))
        return self._attempt.texts() if self._attempt and known else None

    def take(self, select: Select, listed: Collection[str], target: Path) -> bool:
        """Makes ``target``, an empty folder, what the package has, or leaves it empty.

        ``select`` and ``listed`` are what is wanted now that the package is known.
        """
        attempt = self._attempt
        if attempt is None or select != self._select:
            return False
        found, wanted = attempt.result(listed), {*map(select, listed)}
        # What comes after all that is listed is there or not as the threads ran: a build has
        # the same sources whether they were early or not.
        if not found or (wanted and not (wanted <= {*found} and found[-1] in wanted)):
            return False
        attempt.folder.rename(target)
        target.chmod(0o755)
        return True

    def close(self) -> None:
        """Removes what was not taken, and has nothing begin any more."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt:
            attempt.close()


class _Attempt:
    """One file, as it comes, in a thread of its own."""

    def __init__(
        self,
        parent: Path,
        select: Select,
        texts: Collection[str],
        path: Path,
        format: str,
        growth: Growth,
    ) -> None:
        self._select = select
        self._texts = Texts(texts, TEXT_BYTES)
        self._read = threading.Event()
        self._growth = growth
        self._enough: Enough | None = None
        self._closed = False
        self._found: Sequence[str] | None = None
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(atomic.scratch(parent, SCRATCH))
            self.folder = scratch / "src"
            kind = cast(Literal["run", "tar"], format)
            archive = Archive(path, kind, vouched=True, growth=growth)
            self._thread = threading.Thread(target=self._unpack, args=(archive,), daemon=True)
            self._thread.start()
            self._stack = stack.pop_all()

    def result(self, listed: Collection[str]) -> Sequence[str] | None:
        """What was unpacked, as far as ``listed`` is not all; None where that failed."""
        self._enough = all_of(listed)
        self._thread.join()
        return self._found if self._growth.ended else None

    def texts(self) -> Mapping[str, bytes] | None:
        """What was read of itself; None where that failed."""
        self._read.wait()
        sound = self._texts.complete or self._found is not None
        return self._texts.found if sound and self._growth.ended else None

    def close(self) -> None:
        self._closed = True
        self._growth.lose()
        self._thread.join()
        self._stack.close()

    def _unpack(self, archive: Archive) -> None:
        # Whoever unpacks what has come says what is wrong with it.
        with (
            contextlib.ExitStack() as stack,
            contextlib.suppress(LostError, ModulusError, OSError),
        ):
            stack.callback(self._read.set)
            self._found = archive.extract(
                self.folder, self._choose, enough=self._goes, texts=self._texts
            ).files

    def _choose(self, name: str) -> str | None:
        if self._closed:
            raise LostError
        return self._select(name)

    def _goes(self, names: Sequence[str]) -> bool:
        if self._texts.complete:
            self._read.set()
        return self._enough is not None and self._enough(names)
