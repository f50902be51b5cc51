"""Which generations of a driver stay, and why: all others may be removed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from modulus.core.instance import Instance

_NAME = r"[0-9A-Za-z._+~-]"
"""What names of generations are made of."""


@dataclass(frozen=True)
class Found:
    """A generation that is there; ``instance`` and ``release``, its kernel's, are None where
    its manifest cannot be read."""

    name: str
    instance: Instance | None
    release: str | None


@dataclass(frozen=True)
class Records:
    """What is written down about generations, by name.

    ``active`` is the one that is the driver, ``selected`` the instance that is to be it.
    ``good`` are those that worked, the newest first; ``kernels`` the releases that are
    installed or run; ``used`` those that were activated or loaded since the boot; ``firmware``
    is the folder in which the kernel looks for firmware first.
    """

    active: str | None = None
    selected: Instance | None = None
    good: Sequence[str] = ()
    kernels: Collection[str] = ()
    used: Collection[str] = ()
    firmware: str | None = None


def reasons(found: Iterable[Found], records: Records) -> dict[str, str]:
    """Why generations stay by what is written down, by their names.

    Of the good ones the newest stays, and those whose kernel may still be booted. Before
    a switch that is pending, what the selected instance has stays.
    """
    known = {one.name: one for one in found}
    active = known.get(records.active or "")
    pending = records.selected
    if active and active.instance == pending:
        pending = None
    kept: dict[str, str] = {}
    for one in known.values():
        if one.name == records.active:
            kept[one.name] = "active"
        elif pending and one.instance == pending:
            kept[one.name] = "selected"
        elif one.name in records.good and (
            one.name == records.good[0] or one.release in records.kernels
        ):
            kept[one.name] = "good"
        elif one.name in records.used:
            kept[one.name] = "used since the boot"
        elif one.name in mentioned(records.firmware or "", [one.name]):
            kept[one.name] = "firmware"
    return kept


def mentioned(text: str, names: Collection[str]) -> frozenset[str]:
    """Those of ``names`` that ``text``, such as /proc/PID/maps or mountinfo, has in a path.

    As a part of one, wherever that begins: containers have a generation, or a file of it, at
    places of their own, and mountinfo gives the path in the file system that is mounted.
    """
    return frozenset(
        name
        for name in names
        if f"/{name}" in text and re.search(rf"/{re.escape(name)}(?!{_NAME})", text)
    )
