"""The agent's own role, by what is selected; kept for an agent that is started again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modulus.core.agent.role import (
    ACTIVE,
    STANDBY,
    Part,
    Role,
    part_at_boot,
    part_kept,
    role_after,
)
from modulus.core.instance import Instance
from modulus.errors import ModulusError
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation import selected


class OwnRole:
    """The role of the agent of ``mine``.

    ``at_boot`` tells whether the boot started the agent, which counts only where another
    instance is enabled; ``complain`` gets errors with the kept role.
    """

    def __init__(
        self,
        root: Path,
        mine: Instance,
        at_boot: Callable[[], bool],
        complain: Callable[[Exception], object],
    ) -> None:
        self._root = root
        self._mine = mine
        self._driver = DriverPaths(root, mine.profile)
        self._at_boot = at_boot
        self._complain = complain
        self.now: Role = ACTIVE
        self.selected: Instance | None = None

    def begin(self) -> str | None:
        """Takes the first role; returns a warning about it, if there is one."""
        self.selected = selected.read_selected(self._driver)
        part = self._part()
        self._play(part.role)
        return part.warning

    def look(self) -> bool:
        """Takes the role that the selection asks for now; whether it is a new one."""
        before, self.selected = self.selected, selected.read_selected(self._driver)
        role = role_after(self.now, self._mine, before, self.selected)
        if role == self.now:
            return False
        self._play(role)
        return True

    def is_selected(self) -> bool:
        """Whether this very instance is selected now."""
        return selected.read_selected(self._driver) == self._mine

    def forget(self) -> None:
        """Has the next start count as an explicit one."""
        self._mark(standby=False)

    def _part(self) -> Part:
        try:
            standby = selected.stands_by(self._root, self._mine)
            known = part_kept(self._mine, self.selected, standby=standby)
            if known:
                return known
            from modulus.host.generation.enabled import enabled_instances

            enabled = enabled_instances(self._root)
        except ModulusError as error:
            self._complain(error)
            return Part(ACTIVE)
        part = part_at_boot(self._mine, self.selected, enabled)
        # Asked only where it makes a difference: the bus may be slow while a system boots.
        if part == Part(ACTIVE) or self._at_boot():
            return part
        return Part(ACTIVE)

    def _play(self, role: Role) -> None:
        self.now = role
        self._mark(standby=role == STANDBY)

    def _mark(self, *, standby: bool) -> None:
        try:
            selected.mark_standby(self._root, self._mine, standby)
        except (ModulusError, OSError) as error:
            self._complain(error)
