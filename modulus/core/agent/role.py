"""The role of an instance's agent where several instances of a driver are enabled.

An explicit start selects its instance; a start by the boot follows the selection.
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
"""Builds, so that a switch is quick, and touches nothing: another instance is selected."""


@dataclass(frozen=True)
class Part:
    """The ``role`` an agent begins with; ``warning`` is what a person should know of it."""

    role: Role
    warning: str | None = None


def part_kept(mine: Instance, selected: Instance | None, *, standby: bool) -> Part | None:
    """The part of the agent of ``mine``; None where it depends on what starts the agent.

    ``standby``: the agent had that role before it was started again.
    """
    if selected == mine:
        return Part(ACTIVE)
    return Part(STANDBY) if standby else None


def part_at_boot(
    mine: Instance, selected: Instance | None, enabled: Iterable[Instance]
) -> Part:
    """The part after the boot started ``mine`` and all of this driver that is ``enabled``.

    A selected instance that is not enabled would leave the node without a driver, as would no
    selection: the newest of the started instances takes its place.
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
    """The role after the selection went from ``before`` to ``now``.

    The same selection, or none, changes nothing: an agent started while another instance is
    selected is to replace it.
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
