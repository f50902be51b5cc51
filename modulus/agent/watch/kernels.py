"""Tells when a kernel, or the headers of one, was installed or removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modulus.agent.loop import Cancel, Loop
from modulus.core.agent.events import KERNELS, Event
from modulus.core.kernel.upcoming import changes
from modulus.errors import ModulusError
from modulus.host.files.place import below, make_dirs
from modulus.host.kernel.facts import BELL, kernel_facts, kernel_folders

if TYPE_CHECKING:
    from modulus.host.watch.monitor import FolderMonitor


class Kernels:
    """A source of KERNELS events; ``Event.text`` is what changed, for the journal.

    The hooks of kernel packages ring a bell, a watched folder, when all of a kernel is there.
    The watch then looks at once. It also watches the kernels' own folders, and looks once they
    have been quiet for ``settle`` seconds, since a package is unpacked file by file. Only
    changes since ``start`` are told, and only a change wakes the watch.
    """

    def __init__(
        self,
        loop: Loop,
        root: Path,
        tell: Callable[[Event], object],
        settle: float = 2.0,
    ) -> None:
        self._loop = loop
        self._root = root
        self._tell = tell
        self._settle = settle
        self._facts: dict[str, str] = {}
        self._monitors: dict[Path, FolderMonitor] = {}
        self._timer: Cancel | None = None
        self._complained = False

    def start(self) -> None:
        """Begins to watch."""
        if self._monitors:
            return
        # Without the bell there are still the folders.
        with contextlib.suppress(ModulusError, OSError):
            bell = below(self._root, BELL)
            make_dirs(bell)
            self._watch(bell, self._look)
        self._watch_folders()
        self._facts = kernel_facts(self._root)

    def stop(self) -> None:
        """Ends the watch."""
        self._rest()
        for monitor in self._monitors.values():
            monitor.close()
        self._monitors.clear()

    def _look(self) -> None:
        self._rest()
        self._watch_folders()
        facts = kernel_facts(self._root)
        text = changes(self._facts, facts)
        self._facts = facts
        if text:
            self._tell(Event(KERNELS, text))

    def _soon(self) -> None:
        self._rest()
        self._timer = self._loop.after(self._settle, self._look)

    def _rest(self) -> None:
        if self._timer:
            self._timer()
            self._timer = None

    def _watch_folders(self) -> None:
        folders = {*kernel_folders(self._root)}
        bell = below(self._root, BELL)
        for path in self._monitors.keys() - folders - {bell}:
            self._monitors.pop(path).close()
        for path in sorted(folders - self._monitors.keys()):
            self._watch(path, self._soon)

    def _watch(self, path: Path, noticed: Callable[[], object]) -> None:
        from modulus.host.watch.monitor import FolderMonitor

        try:
            self._monitors[path] = FolderMonitor(path, lambda _name: noticed())
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._tell(Event(KERNELS, f"{path} cannot be watched: {error.strerror}"))
