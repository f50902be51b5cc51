"""User and group ids that nobody else has, for builds: they run a driver's own code.

A build takes one piece of a range: as many ids as a user namespace needs. The texts are those
of passwd(5), group(5), subuid(5) and ``/proc/PID/{status,uid_map}`` (proc(5),
user_namespaces(7)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PIECE = 65536
"""Ids in a piece: a namespace with fewer has no id for nobody (65534)."""

_MOST = 0xFFFFFFFE
"""The greatest id: the next number means no id."""


@dataclass(frozen=True)
class Ids:
    """The ids from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def overlaps(self, other: Ids) -> bool:
        """Whether any id is in both."""
        return self.first <= other.last and other.first <= self.last

    def holds(self, other: Ids) -> bool:
        """Whether all of ``other`` is in this range."""
        return self.first <= other.first and other.last <= self.last

    def pieces(self) -> Iterator[Ids]:
        """Its whole pieces, from the first id on."""
        for first in range(self.first, self.last - PIECE + 2, PIECE):
            yield Ids(first, first + PIECE - 1)


DEFAULT = Ids(0x78000000, 0x7FFDFFFF)
"""Above what systemd, subuid's tools (to 600100000) and sssd (to 2000200000) give out, below
systemd's foreign ids and 2^31. See systemd's UIDS-GIDS.md."""


def parse_ids(value: object) -> Ids:
    """The range in a setting FIRST-LAST; a ValueError says what it must be."""
    found = re.fullmatch(r"([1-9][0-9]{0,9})-([1-9][0-9]{0,9})", str(value))
    ids = Ids(int(found[1]), int(found[2])) if found else None
    if ids is None or ids.last > _MOST or ids.last - ids.first + 1 < PIECE:
        raise ValueError(f"must be a range of at least {PIECE} ids, such as {DEFAULT}")
    return ids


def of_accounts(text: str) -> Iterator[Ids]:
    """Every id in the text of passwd or group; lines without one are skipped."""
    for fields in (line.split(":") for line in text.splitlines()):
        for field in fields[2:4]:
            if _is_id(field):
                yield Ids(int(field), int(field))


def of_grants(text: str) -> Iterator[Ids]:
    """The ranges in the text of subuid or subgid."""
    for fields in (line.split(":") for line in text.splitlines()):
        if len(fields) == 3 and _is_id(fields[1]) and _is_id(fields[2]):
            yield from _counted(int(fields[1]), int(fields[2]))


def of_map(text: str) -> Iterator[Ids]:
    """The ranges of a ``uid_map`` outside its namespace, but for ids mapped to themselves."""
    for inside, outside, count in _map(text):
        if inside != outside:
            yield from _counted(outside, count)


def of_own_map(text: str) -> Iterator[Ids]:
    """The ranges of a ``uid_map`` inside its namespace: the ids its processes can have."""
    for inside, _, count in _map(text):
        yield from _counted(inside, count)


def of_process(status: str) -> Iterator[Ids]:
    """The ids that a process has, from its ``status``."""
    for line in status.splitlines():
        name, _, values = line.partition(":")
        if name in ("Uid", "Gid", "Groups"):
            for value in filter(_is_id, values.split()):
                yield Ids(int(value), int(value))


def free(wanted: Ids, taken: Iterable[Ids]) -> Iterator[Ids]:
    """The pieces of ``wanted`` that overlap none of ``taken``."""
    in_use = [ids for ids in taken if ids.overlaps(wanted)]
    for piece in wanted.pieces():
        if not any(map(piece.overlaps, in_use)):
            yield piece


def _map(text: str) -> Iterator[tuple[int, int, int]]:
    for fields in map(str.split, text.splitlines()):
        if len(fields) == 3 and all(map(_is_id, fields)):
            inside, outside, count = map(int, fields)
            yield inside, outside, count


def _counted(first: int, count: int) -> Iterator[Ids]:
    if count:
        yield Ids(first, first + count - 1)


def _is_id(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) <= 10
