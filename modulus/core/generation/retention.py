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
    """An existing generation; ``instance`` and its kernel's ``release`` are None where its
    manifest cannot be read."""

    name: str
    instance: Instance | None
    release: str | None


@dataclass(frozen=True)
class Records:
    """What is written down about generations, by name.

    ``active`` is the driver now, ``selected`` the instance that should be. ``good`` are those
    that worked, the newest first; ``kernels`` the releases that are installed or run; ``used``
    those activated or loaded since the boot; ``firmware`` the folder that the kernel searches
    first for firmware.
    """

    active: str | None = None
    selected: Instance | None = None
    good: Sequence[str] = ()
    kernels: Collection[str] = ()
    used: Collection[str] = ()
    firmware: str | None = None


def reasons(found: Iterable[Found], records: Records) -> dict[str, str]:
    """Why generations stay, by name, as ``records`` have it.

    The newest good one stays, and each good one whose kernel may still be booted. While a
    switch is pending, the selected instance's generations stay.
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
    """The ``names`` that are part of a path in ``text``, such as /proc/PID/maps or mountinfo.

    The part may be anywhere in the path: a container may have a generation, or a file of it,
    elsewhere, and mountinfo gives paths within the mounted file system.
    """
    return frozenset(
        name
        for name in names
        if f"/{name}" in text and re.search(rf"/{re.escape(name)}(?!{_NAME})", text)
    )
