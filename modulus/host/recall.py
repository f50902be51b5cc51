"""What dear readings and renderings came to, so that a warm start need not do them again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from modulus import __version__
from modulus.errors import ModulusError
from modulus.host import files
from modulus.host.place import make_dirs


class Recall:
    """JSON values by a digest of what they were made of, in the file ``path``; None keeps none.

    Only what was asked for in this process stays when it is written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._used: dict[str, Any] = {}

    @cached_property
    def _held(self) -> dict[str, Any]:
        held = None
        with contextlib.suppress(OSError):
            held = files.read_json(self._path) if self._path else None
        return held if isinstance(held, dict) else {}

    def find(self, *made_of: object) -> Any:
        """What was noted for this; None for nothing. Not to be changed."""
        key = _digest(made_of)
        value = self._held.get(key)
        if value is not None:
            self._used[key] = value
        return value

    def note(self, value: Any, *made_of: object) -> None:
        """Has ``value``, plain data, found the next time."""
        self._used[_digest(made_of)] = value

    def keep(self) -> None:
        """Writes what was used, if that is news. It only saves time: trouble is passed over."""
        if self._path and self._used != self._held:
            with contextlib.suppress(OSError, ModulusError, ValueError):
                make_dirs(self._path.parent)
                files.write_json(self._path, self._used)


def _digest(made_of: object) -> str:
    # Another version of Modulus may make something else of the same.
    text = json.dumps([__version__, made_of], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
