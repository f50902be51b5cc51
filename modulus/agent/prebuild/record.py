"""The results of builds ahead, kept in /run so that they outlive the agent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from modulus.core.kernel.upcoming import Kernel, Tried, parse_tried
from modulus.errors import ModulusError
from modulus.host.files import atomic
from modulus.host.files.place import below, make_dirs, writing
from modulus.host.files.record import read_record

_FOLDER = "/run/modulus/ahead"


class KernelRecord:
    """The last build ahead of ``instance``; where its file cannot be used it stays in memory,
    and ``complain`` gets the error."""

    def __init__(
        self, root: Path, instance: str, complain: Callable[[Exception], object]
    ) -> None:
        self._root = root
        self._instance = instance
        self._complain = complain
        self._tried: Tried | None = None
        self._is_written = False

    @property
    def tried(self) -> Tried:
        """The result of the last build ahead, read once; none where a build by hand has
        overtaken it and taken its file away."""
        try:
            if self._tried is None:
                self._tried = read_record(self._path(), parse_tried)
                self._is_written = self._tried is not None
            elif self._is_written and not self._path().exists():
                self._tried = None
        except (ModulusError, OSError) as error:
            self._complain(error)
            self._is_written = False
        self._tried = self._tried or Tried()
        return self._tried

    def ended(self, kernels: Mapping[str, Kernel], code: int, now: float) -> Tried:
        """Notes that a build for ``kernels`` ended with ``code``."""
        self._tried = tried = self.tried.then(kernels, code, now)
        self._is_written = False
        try:
            path = self._path()
            with writing(path):
                make_dirs(path.parent)
                atomic.write_json(path, tried.value())
            self._is_written = True
        except (ModulusError, OSError) as error:
            self._complain(error)
        return tried

    def built(self, releases: Collection[str]) -> None:
        """Takes the record away where it says that builds failed that are there now. The agent
        has a look then, and notes what it finds."""
        if self.tried.is_overtaken(releases):
            try:
                self._path().unlink(missing_ok=True)
            except (ModulusError, OSError) as error:
                self._complain(error)

    def _path(self) -> Path:
        return below(self._root, _FOLDER) / f"{self._instance}.json"
