"""Paths below another root: links are followed as a process with that root would."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_MOST_LINKS = 40


def resolve(root: Path, path: str | Path) -> Path:
    """Where ``path``, seen from inside ``root``, lies on this machine; it need not exist.

    Absolute links begin at ``root`` again and ``..`` does not leave it. Raises OSError
    (ELOOP) for links in a circle.
    """
    return root.joinpath(*_parts(str(root), str(path)))


def inside(root: Path, path: Path) -> str:
    """The name that the resolved ``path`` has for a process whose root is ``root``."""
    return "/" + path.relative_to(root).as_posix().removeprefix(".")


def _parts(root: str, path: str) -> list[str]:
    left = path.split("/")[::-1]
    inside: list[str] = []
    links = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del inside[-1:]
            continue
        try:
            target = os.readlink("/".join((root, *inside, part)))
        except OSError:
            inside.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            inside = []
        left.extend(target.split("/")[::-1])
    return inside
