"""Which mount holds a path, from the text of ``/proc/PID/mountinfo`` (proc(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LEAST = 10
"""Fields of a line without any of the optional ones."""


@dataclass(frozen=True)
class Mount:
    """A mount: where it is, its own options (such as ``noexec``), type and source."""

    point: str
    options: frozenset[str]
    kind: str
    source: str

    def holds(self, path: str) -> bool:
        """Whether the absolute ``path`` lies below the mount point, or is it."""
        return path == self.point or path.startswith(f"{self.point.rstrip('/')}/")


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """The mounts in the order they were made; a line of another form raises ValueError."""
    return tuple(_mount(line) for line in text.splitlines() if line.strip())


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """The mount that holds ``path``, which is absolute and without links; of several at one
    point the last counts."""
    holding = [mount for mount in mounts if mount.holds(path)]
    # max() keeps the first of equals, so the last comes first.
    return max(reversed(holding), key=lambda mount: len(mount.point), default=None)


def _mount(line: str) -> Mount:
    fields = line.split(" ")
    # Any number of optional fields ends with a hyphen.
    end = fields.index("-", 6) if "-" in fields[6:] else 0
    if len(fields) < _LEAST or not end or len(fields) < end + 4:
        raise ValueError(f"not a line of mountinfo: {line!r}")
    return Mount(
        point=_plain(fields[4]),
        options=frozenset(fields[5].split(",")),
        kind=_plain(fields[end + 1]),
        source=_plain(fields[end + 2]),
    )


def _plain(field: str) -> str:
    """``field`` without the octal escapes of space, tab, newline, ``#`` and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
