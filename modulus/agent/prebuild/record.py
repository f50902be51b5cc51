"""The results of builds ahead, kept in /run so that they outlive the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
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

    @cached_property
    def tried(self) -> Tried:
        """The result of the last build ahead."""
        try:
            return read_record(self._path(), parse_tried) or Tried()
        except (ModulusError, OSError) as error:
            self._complain(error)
            return Tried()

    def ended(self, kernels: Mapping[str, Kernel], code: int, now: float) -> Tried:
        """Notes that a build for ``kernels`` ended with ``code``."""
        # A plain attribute from now on: the file is not read again.
        self.__dict__["tried"] = tried = self.tried.then(kernels, code, now)
        try:
            path = self._path()
            with writing(path):
                make_dirs(path.parent)
                atomic.write_json(path, tried.value())
        except (ModulusError, OSError) as error:
            self._complain(error)
        return tried

    def _path(self) -> Path:
        return below(self._root, _FOLDER) / f"{self._instance}.json"
