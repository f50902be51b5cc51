"""How an instance shows: its state in /run, its STATUS in systemd, its one-time warnings."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from modulus.core.status.state import State
from modulus.errors import ModulusError
from modulus.host.report.clock import rfc3339
from modulus.host.report.notify import Notifier
from modulus.host.report.reporter import Reporter
from modulus.host.status.files import clear_state, is_anothers, read_state, write_state


class InstanceStatus:
    """The state and the STATUS of ``instance``."""

    def __init__(
        self,
        root: Path,
        instance: str,
        notifier: Notifier,
        reporter: Reporter,
    ) -> None:
        self._root = root
        self._instance = instance
        self._notifier = notifier
        self._reporter = reporter
        self._status = self._more = ""
        self._hold_s: float | None = None
        self._said: set[str] = set()

    def read(self, *, active: bool = False) -> State:
        """The state that the last child has left; where it left none, only that it is over."""
        held = None
        try:
            held = read_state(self._root, self._instance)
        except (ModulusError, OSError) as error:
            self.complain(error)
        return held or State(self._instance, "ready", active=active, selected=active)

    def enter(self, state: State, phase: str) -> State:
        """Makes ``state`` in ``phase`` the one in /run, and returns it."""
        state = in_phase(state, phase)
        self.write(state)
        return state

    def write(self, state: State | None) -> None:
        """Makes ``state`` the one in /run, unless another process at work has its own there."""
        try:
            if is_anothers(self._root, self._instance):
                return
            if state is None:
                clear_state(self._root, self._instance)
            else:
                write_state(self._root, replace(state, hold_s=self._hold_s))
        except (ModulusError, OSError) as error:
            self.complain(error)

    def say(
        self,
        status: str,
        *,
        ready: bool = False,
        stopping: bool = False,
        extend: float | None = None,
    ) -> None:
        """Tells systemd, as ``Notifier.send`` does."""
        self._status = status
        self._notifier.send(
            status="; ".join(filter(None, (status, self._more))),
            ready=ready,
            stopping=stopping,
            extend=extend,
        )

    def again(self) -> None:
        """Sends the last STATUS once more: a child has sent its own since."""
        if self._status:
            self.say(self._status)

    def hold(self, seconds: float | None, text: str) -> None:
        """Shows that a reboot can be held for ``seconds``; ``text`` is "" while none is."""
        self._hold_s, self._more = seconds, text
        try:
            state = read_state(self._root, self._instance)
        except (ModulusError, OSError) as error:
            self.complain(error)
        else:
            if state:
                self.write(state)
        self.again()

    def alive(self) -> None:
        """Tells systemd that the loop runs."""
        self._notifier.send(watchdog=True)

    def complain(self, error: Exception) -> None:
        """Warns once of trouble with the state's files, which is worth no failure."""
        self.warn_once("the state is not kept", f": {error}")

    def warn_once(self, text: str, more: str = "") -> None:
        """Warns, unless ``text`` was said already."""
        if text not in self._said:
            self._said.add(text)
            self._reporter.warn(text + more)


def in_phase(state: State, phase: str) -> State:
    """``state`` in ``phase``, since now where its phase was another one."""
    if phase == state.phase:
        return state
    return replace(state, phase=phase, since=rfc3339(time.time()))
