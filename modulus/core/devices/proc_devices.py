"""Which character devices the kernel knows, from the text of ``/proc/devices``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_MINOR = (1 << 20) - 1
"""The greatest minor number (MINORBITS in linux/kdev_t.h)."""

MOST_MAJOR = 511
"""The greatest major number of a character device (CHRDEV_MAJOR_MAX in linux/fs.h)."""

_SECTION = "Character devices:"


@dataclass(frozen=True)
class CharDevices:
    """Names and majors in the kernel's order; several names may share a major."""

    entries: tuple[tuple[str, int], ...] = ()

    def major(self, names: Iterable[str]) -> int | None:
        """The major of the first of ``names`` that is there; names match exactly."""
        for wanted in names:
            for name, major in self.entries:
                if name == wanted:
                    return major
        return None

    def is_taken(self, major: int) -> bool:
        """Whether any driver has ``major``."""
        return any(taken == major for _, taken in self.entries)


def parse_chardevs(text: str) -> CharDevices:
    """Reads the section of character devices; lines of another form count as absent.

    Majors are right-aligned and names may hold blanks (``chrdev_show`` in fs/char_dev.c).
    """
    found: list[tuple[str, int]] = []
    inside = False
    for line in text.split("\n"):
        if line.strip() == _SECTION:
            inside = True
        elif inside and not line.strip():
            break
        elif inside:
            number, _, name = line.strip().partition(" ")
            if number.isascii() and number.isdigit() and name and int(number) <= MOST_MAJOR:
                found.append((name.lstrip(), int(number)))
    return CharDevices(tuple(found))
