"""Takes things out of a cache: at any moment, a kill included, they are whole or gone."""

from __future__ import annotations

import os
import time
from pathlib import Path

from modulus.host.files import atomic

_PREFIX = "gone"


def remove_whole(path: Path) -> None:
    """Removes the folder ``path``, which one durable rename hides first, or a file.

    A kill leaves a scratch folder, which ``atomic.sweep`` removes.
    """
    if path.is_dir() and not path.is_symlink():
        with atomic.scratch(path.parent, _PREFIX) as folder:
            os.rename(path, folder / path.name)
            atomic.fsync_dir(path.parent)
    else:
        path.unlink(missing_ok=True)


def set_aside(cache: Path, path: Path) -> Path:
    """Moves the bad ``path`` to ``bad/`` of its ``cache`` and returns the new path; OSError.

    One name may go bad more than once, so the time is part of the new one.
    """
    aside = cache / "bad" / f"{path.name}.{time.time_ns()}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    path.rename(aside)
    return aside
