"""Which part the agent of one instance plays, where several instances of a driver are enabled.

An explicit start selects; a start by the boot goes by what is selected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from modulus.core.instance import Instance

Role = Literal["active", "standby"]

ACTIVE: Role = "active"
"""Brings the driver up and keeps it right."""
STANDBY: Role = "standby"
"""Another instance is selected: builds, so that a switch is quick, and touches nothing."""


@dataclass(frozen=True)
class Part:
    """The ``role`` an agent begins with; ``warning`` is what a person should know of it."""

    role: Role
    warning: str | None = None


def part_kept(mine: Instance, selected: Instance | None, *, standby: bool) -> Part | None:
    """The part that needs no look at what starts it; None where that decides.

    ``standby``: it had that role before it was started again.
    """
    if selected == mine:
        return Part(ACTIVE)
    return Part(STANDBY) if standby else None


def part_at_boot(
    mine: Instance, selected: Instance | None, enabled: Iterable[Instance]
) -> Part:
    """The part where the boot starts it, and whatever else of this driver is ``enabled``.

    What is selected but not enabled would leave the node without a driver, as would none: the
    newest of those that are started takes its place.
    """
    started = {mine, *(one for one in enabled if one.profile == mine.profile)}
    if selected in started:
        return Part(ACTIVE if selected == mine else STANDBY)
    if max(started, key=_age) != mine:
        return Part(STANDBY)
    if selected is None:
        return Part(ACTIVE)
    return Part(
        ACTIVE,
        f"{selected} is selected, but not enabled: {mine} takes its place "
        f"(systemctl enable --now modulus@{selected} would have that one)",
    )


def role_after(
    role: Role, mine: Instance, before: Instance | None, now: Instance | None
) -> Role:
    """The role once ``now`` is selected, which ``before`` was.

    No news changes nothing: what was started while another one is selected is to be that.
    """
    if now in (before, None):
        return role
    return ACTIVE if now == mine else STANDBY


def _age(instance: Instance) -> tuple[list[tuple[int, str]], str]:
    """Sorts versions by their numbers, newest last."""
    parts = re.findall(r"\d+|[A-Za-z]+", instance.version)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], str(
        instance
    )
