"""How often an instance failed in a row, kept in /run so that it outlives the agent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.errors import ModulusError
from modulus.host.files import atomic
from modulus.host.files.place import make_dirs, writing
from modulus.host.files.record import read_record
from modulus.host.status.files import failures_file


class FailureRecord:
    """The failures of ``instance`` with the same inputs.

    Where the file cannot be used ``complain`` gets the error, and the count stays in memory.
    """

    def __init__(
        self, root: Path, instance: str, complain: Callable[[Exception], object]
    ) -> None:
        self._root = root
        self._instance = instance
        self._complain = complain
        self._unwritten: dict[str, Any] | None = None

    def failed(self, inputs: str) -> int:
        """Counts one more failure and returns the count; other ``inputs`` begin at 1."""
        held = self._unwritten or self._read()
        count = _count(held, inputs) + 1
        self._unwritten = {"failures": count, "inputs": inputs}
        with self._complaining():
            path = failures_file(self._root, self._instance)
            with writing(path):
                make_dirs(path.parent)
                atomic.write_json(path, self._unwritten)
            self._unwritten = None
        return count

    def clear(self) -> None:
        """Forgets the failures: the instance works again."""
        self._unwritten = None
        with self._complaining():
            failures_file(self._root, self._instance).unlink(missing_ok=True)

    def _read(self) -> Mapping[str, Any]:
        with self._complaining():
            path = failures_file(self._root, self._instance)
            return read_record(path, _parse) or {}
        return {}

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except (ModulusError, OSError) as error:
            self._complain(error)


def _parse(value: object) -> Mapping[str, Any]:
    of = Fields(value, "the record of failures")
    return {"failures": of("failures", forms.count), "inputs": of("inputs", forms.line)}


def _count(held: Mapping[str, Any], inputs: str) -> int:
    return int(held["failures"]) if held.get("inputs") == inputs else 0
