"""The queue of builds for kernels that do not run yet."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from modulus.agent.loop import Cancel, Loop
from modulus.agent.prebuild.prover import Prover
from modulus.agent.prebuild.reboot_hold import RebootHold
from modulus.agent.prebuild.record import KernelRecord
from modulus.core.agent.events import BUILD, Event
from modulus.core.kernel.upcoming import Kernel
from modulus.core.status.boot_hold import UnitState
from modulus.core.wording import span
from modulus.errors import ModulusError
from modulus.host.process.spawn import spawn
from modulus.host.report.reporter import Reporter

_NICE = 19
_UNSEEN = 15.0
"""Seconds within which a started service is seen, unless it came and went."""
_STOPPED = 128 + signal.SIGTERM
_INSTALLED = 600.0
"""Seconds that a package manager has for the kernels' packages before they are taken as they
are: it may have been interrupted, or wait for an answer."""


class Units(Protocol):
    """What the queue asks of the bus; answers come by the main loop, none from a lost bus."""

    def on_unit(self, name: str, callback: Callable[[UnitState], object]) -> Cancel:
        """Calls ``callback`` with the service's state now, and with each later one."""

    def start_unit(self, name: str, failed: Callable[[ModulusError], object]) -> object:
        """Has the service ``name`` started, and does not wait for that."""


@dataclass(frozen=True)
class Prebuild:
    """How to build ahead: ``command`` with ``env``, or the service ``unit``, its equal.

    ``kernels`` gives the installed kernels that do not run, ``hold_reboot`` the setting, None
    where it cannot be told. After a failure the kernels are looked at every ``poll`` seconds
    until the next try. ``being_installed`` gives the packages of kernels that are not wholly
    installed yet, and is asked every ``glance`` seconds while there are any.
    """

    instance: str
    unit: str | None
    command: Sequence[str]
    env: Mapping[str, str]
    kernels: Callable[[], Mapping[str, Kernel]]
    poll: float = 60.0
    hold_reboot: Callable[[], float | None] = lambda: None
    being_installed: Callable[[Sequence[str]], tuple[str, ...]] = lambda _releases: ()
    glance: float = 2.0


class PrebuildQueue:
    """Runs at most one build in the background; tells a BUILD event when one has ended.

    A finished build is not begun again, not even by the next agent. ``attach`` brings the bus,
    where a build that already runs is found by its unit's name. The ``prover`` may work while
    there is nothing to build.
    """

    def __init__(
        self,
        ahead: Prebuild,
        record: KernelRecord,
        loop: Loop,
        reporter: Reporter,
        tell: Callable[[Event], object],
        hold: RebootHold | None = None,
        now: Callable[[], float] = time.time,
        prover: Prover | None = None,
    ) -> None:
        self._ahead = ahead
        self._prover = prover
        self._record = record
        self._loop = loop
        self._reporter = reporter
        self._tell = tell
        self._hold = hold
        self._now = now
        self._units: Units | None = None
        self._pid: int | None = None
        self._unit_runs = False
        self._unseen = False
        self._state: UnitState | None = None
        self._cancel: Cancel | None = None
        self._kernels: Mapping[str, Kernel] = {}
        self._awaited: tuple[str, ...] = ()
        self._awaited_since = 0.0
        self._looked = False
        self._stopped = False
        self._timer: Cancel | None = None

    @property
    def running(self) -> bool:
        """Whether a build is under way."""
        return self._pid is not None or self._unit_runs

    def attach(self, units: Units) -> None:
        """Takes the bus: there is one now."""
        self._want_hold()
        self._units = units
        if self._ahead.unit:
            # The first state that it tells has the queue look.
            self._cancel = units.on_unit(self._ahead.unit, self._unit_is)

    def detach(self) -> None:
        """Goes on without the bus, which was lost; a unit goes on too."""
        self._units = self._state = self._cancel = None
        if self._unseen:
            # The bus, once it is back, tells whether the unit runs.
            self._unit_runs = self._unseen = False
            self._rest(None)

    def look(self, why: str = "") -> None:
        """Begins a build if there is one to make; ``why`` is the reason to look."""
        if self._stopped:
            return
        if why:
            self._reporter.phase("watch", why)
        self._want_hold()
        self._looked = True
        if self.running:
            # The end of that build has the queue look again.
            return
        self._rest(None)
        kernels = self._ahead.kernels()
        # A failure is none any more once its kernels are gone.
        self._record.built(self._record.tried.kernels.keys() - kernels.keys())
        missing = self._record.tried.missing(kernels)
        wait = self._record.tried.wait(kernels, self._now())
        if missing and not wait and (self._ahead.unit is None or self._state):
            if self._is_being_installed(missing):
                self._held()
                self._rest(self._loop.after(self._ahead.glance, self.look))
            else:
                self._start(kernels, missing)
            return
        self._released()
        if self._prover:
            self._prover.rest()
        if missing and wait:
            self._rest(self._loop.after(min(wait, self._ahead.poll), self.look))

    def give_way(self) -> None:
        """Has the prover give way to other work; a build goes on."""
        if self._prover:
            self._prover.give_way()

    def stop(self) -> None:
        """Ends a child; a unit goes on, for the next agent to find."""
        self._stopped = True
        self.give_way()
        self._rest(None)
        self._released()
        if self._cancel:
            self._cancel()
        self.detach()
        if self._pid is not None:
            os.kill(self._pid, signal.SIGTERM)

    def _is_being_installed(self, missing: Sequence[str]) -> bool:
        """Whether to wait for the packages of these kernels. The build itself never does: a
        package's script may run it."""
        packages = self._ahead.being_installed(missing)
        if packages != self._awaited:
            self._awaited, self._awaited_since = packages, self._now()
            if packages:
                text = f"{self._ahead.instance}: waits until {', '.join(packages)} is installed"
                self._reporter.phase("build", text)
        if 0 <= self._now() - self._awaited_since < _INSTALLED:
            return bool(packages)
        # Once is enough, also where the clock was set back.
        self._awaited_since = -math.inf
        return False

    def _start(self, kernels: Mapping[str, Kernel], missing: Sequence[str]) -> None:
        self._kernels = kernels
        self._held()
        names = ", ".join(missing)
        self._reporter.phase("build", f"{self._ahead.instance} ahead of the next boot: {names}")
        if self._ahead.unit and self._units:
            self._unit_runs = self._unseen = True
            self._rest(self._loop.after(_UNSEEN, self._overdue))
            self._units.start_unit(self._ahead.unit, self._refused)
        else:
            self._spawn()

    def _spawn(self) -> None:
        self._pid = spawn(self._ahead.command, env=self._ahead.env, nice=_NICE)
        self._loop.child(self._pid, self._child_ended)

    def _child_ended(self, code: int) -> None:
        self._pid = None
        self._ended(code)

    def _refused(self, error: ModulusError) -> None:
        """Builds in a child: systemd has no such service, or cannot start it."""
        if self._unseen and not self._stopped:
            self._unit_runs = self._unseen = False
            self._rest(None)
            self._reporter.warn(f"{error.message}; the build is a child of the agent")
            self._spawn()

    def _unit_is(self, state: UnitState) -> None:
        known, self._state = self._state, state
        if self._stopped:
            return
        if not state.at_rest:
            if self._unseen:
                self._unseen = False
                self._rest(None)
            elif not self.running:
                # Begun by an earlier agent, or by hand.
                self._kernels = self._ahead.kernels()
                self._unit_runs = True
                text = f"{self._ahead.instance}: {self._ahead.unit} is at work already"
                self._reporter.phase("build", text)
                self._held()
        elif self._unit_runs and not self._unseen:
            self._unit_ended(state)
        elif known is None and self._looked:
            self.look()

    def _overdue(self) -> None:
        """Takes the unit for ended: it came and went unseen."""
        if self._unseen and self._state:
            self._unseen = False
            self._unit_is(self._state)

    def _unit_ended(self, state: UnitState) -> None:
        self._unit_runs = False
        if state.result == "success":
            # A unit that was stopped has succeeded as well, but not done its work.
            self._ended(_STOPPED if state.exit_status else 0)
        else:
            by_itself = state.result == "exit-code" and state.exit_status
            self._ended(by_itself or ModulusError.code)

    def _ended(self, code: int) -> None:
        if self._stopped:
            return
        built = {
            release: Kernel(old.inputs, new.stored)
            for release, new in self._ahead.kernels().items()
            if (old := self._kernels.get(release))
        }
        tried = self._record.ended(built, code, self._now())
        names = ", ".join(built)
        if code == 0:
            text = f"{self._ahead.instance} is ready for {names or 'every installed kernel'}"
            self._reporter.phase("build", text)
        else:
            text = (
                f"{self._ahead.instance} is not ready for every installed kernel ({names}): "
                f"the build ended with {_how(code)}"
            )
            self._reporter.error(f"modulus: error: {text}")
            self._reporter.error(
                "modulus: hint: do not reboot yet, see what the build said above; it is tried "
                f"again in {span(tried.delay)}, or when kernels, headers or settings change"
            )
        self._tell(Event(BUILD, text))
        # Releases the hold, unless there is more to build.
        self.look()

    def _want_hold(self) -> None:
        seconds = self._ahead.hold_reboot()
        if self._hold and seconds is not None:
            self._hold.want(seconds)

    def _held(self) -> None:
        self.give_way()
        if self._hold:
            self._hold.take(f"the build of {self._ahead.instance} for the next kernel")

    def _released(self) -> None:
        if self._hold:
            self._hold.release()

    def _rest(self, timer: Cancel | None) -> None:
        """Replaces the running timer with ``timer``, None for no timer."""
        if self._timer:
            self._timer()
        self._timer = timer


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
