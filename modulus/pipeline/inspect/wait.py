"""Waits until the drivers that this boot starts are READY, or cannot be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from modulus.core.instance import parse_instance
from modulus.core.status.boot_hold import (
    FAILED,
    OFF,
    READY,
    WAITING,
    Standing,
    decisive,
    expect,
    stand,
    unit_name,
)
from modulus.core.status.state import Failure
from modulus.errors import LockedError, ModulusError, UsageError
from modulus.host.bus import endpoint
from modulus.host.bus.systemd import Systemd
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import below
from modulus.host.generation.enabled import enabled_instances, selected_instance
from modulus.host.report.own_unit import BOOTED
from modulus.host.report.reporter import Reporter
from modulus.host.status.files import read_state, read_states
from modulus.pipeline.site import Site

_POLL_SECONDS, _LONGEST_POLL = 0.5, 2.0
_LINE_SECONDS = 10.0


@dataclass(frozen=True)
class Waited:
    """How the wait ended for each driver: the standing of the instance that counts."""

    standings: tuple[Standing, ...]

    @property
    def error(self) -> Failure | None:
        """The error of the first driver that failed, or was not ready in time."""
        return next((standing.error for standing in self.standings if standing.error), None)

    @property
    def code(self) -> int:
        """The exit code."""
        return self.error.code if self.error else 0

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        value: dict[str, Any] = {
            "instances": [
                {
                    "instance": standing.instance,
                    "ready": standing.verdict == READY,
                    "error": asdict(standing.error) if standing.error else None,
                }
                for standing in self.standings
            ]
        }
        return value | ({"error": asdict(self.error)} if self.error else {})


def wait(
    site: Site,
    reporter: Reporter,
    timeout: float | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Waited:
    """Returns when every driver that is being started is READY, cannot be, or is too late.

    Too late is after ``timeout`` seconds, or the driver's ``boot_hold``. Reports how each
    ended, errors included. An instance that is enabled but not being started is not waited
    for: it would not come. systemd is asked where it runs; elsewhere the states in /run count,
    and while it does not answer, enabled instances count as being started too.
    """
    started = clock()
    ended: dict[str, Standing] = {}
    limits: dict[str, float] = {}
    lines = _Lines(reporter, clock)
    with closing(_Manager(site, reporter)) as manager:
        while True:
            waiting = False
            for driver, standing in _look(site, manager.standings()):
                if driver in ended:
                    continue
                if driver not in limits:
                    limits[driver] = _boot_hold(site, driver) if timeout is None else timeout
                if standing.verdict == WAITING and clock() - started < limits[driver]:
                    lines.waiting(standing)
                    waiting = True
                    continue
                held = timeout is not None or limits[driver] > 0
                ended[driver] = _ended(standing, limits[driver] if held else None)
                _tell(reporter, ended[driver])
            if not waiting:
                break
            # Under a long build the node has better things to do than to answer.
            sleep(min(_LONGEST_POLL, max(_POLL_SECONDS, (clock() - started) / 20)))
    if not ended:
        reporter.phase("wait", "for nothing: no driver is being started")
    return Waited(tuple(ended.values()))


class _Manager:
    """Where the instances stand: by systemd, where that runs and answers, and by /run."""

    def __init__(self, site: Site, reporter: Reporter) -> None:
        self._site = site
        self._reporter = reporter
        self._systemd: Systemd | None = None
        self._told = False

    def close(self) -> None:
        """Ends the connection; asking again makes another."""
        if self._systemd:
            self._systemd.close()
            self._systemd = None

    def standings(self) -> tuple[Standing, ...]:
        """The standings of all instances that something is known of."""
        root = self._site.root
        if endpoint.available(root):
            try:
                return self._asked()
            except ModulusError as error:
                # systemd or the bus may start anew: a boot is not let go for that.
                self.close()
                self._tell(error.message)
            enabled = enabled_instances(root)
        elif below(root, BOOTED).is_dir():
            enabled = enabled_instances(root)
            if enabled:
                self._tell("there is no system bus")
        else:
            enabled = ()
        states = {state.instance: state for state in read_states(root)}
        started = {str(instance) for instance in enabled}
        return tuple(
            expect(name, states.get(name))
            if name in started
            else stand(name, None, states.get(name))
            for name in sorted({*states, *started})
        )

    def _asked(self) -> tuple[Standing, ...]:
        systemd = self._systemd = self._systemd or Systemd()
        return tuple(
            stand(name, systemd.unit_state(unit_name(name)), read_state(self._site.root, name))
            for name in systemd.list_instances()
        )

    def _tell(self, cause: str) -> None:
        if not self._told:
            self._told = True
            self._reporter.warn(f"systemd is asked again and again: {cause}")


def _look(site: Site, known: Iterable[Standing]) -> Iterator[tuple[str, Standing]]:
    """Every driver that is on, with the standing of the instance that counts."""
    drivers: dict[str, list[Standing]] = {}
    for standing in known:
        with suppress(UsageError):
            driver = parse_instance(standing.instance, "").profile
            drivers.setdefault(driver, []).append(standing)
    for driver, standings in drivers.items():
        selected = selected_instance(DriverPaths(site.root, driver))
        counts = decisive(standings, str(selected) if selected else None)
        if counts:
            yield driver, counts


def _boot_hold(site: Site, driver: str) -> float:
    return replace(site, driver=driver).settings.boot_hold


def _ended(standing: Standing, limit: float | None) -> Standing:
    """``standing`` as the last word: one that still waits is late, or OFF without a limit."""
    if standing.verdict != WAITING:
        return standing
    if limit is None:
        return replace(standing, verdict=OFF)
    late = LockedError(
        f"waited past {limit:.0f} s, not ready yet ({standing.text})",
        f"see modulus status {standing.instance}; boot_hold or --timeout says how long to wait",
    )
    return replace(standing, verdict=FAILED, error=Failure.of(late))


def _tell(reporter: Reporter, standing: Standing) -> None:
    if standing.error:
        reporter.error(f"modulus: error: {standing.instance}: {standing.error.message}")
        reporter.error(f"modulus: hint: {standing.error.hint}")
    elif standing.verdict == OFF:
        reporter.phase("wait", f"not for {standing.instance}: boot_hold is 0")
    else:
        reporter.phase("wait", f"{standing.instance} is ready")


class _Lines:
    """One line when the wait for an instance begins, then one for news, but not often."""

    def __init__(self, reporter: Reporter, clock: Callable[[], float]) -> None:
        self._reporter = reporter
        self._clock = clock
        self._said: dict[str, tuple[str, float]] = {}

    def waiting(self, standing: Standing) -> None:
        now = self._clock()
        text, said = self._said.get(standing.instance, ("", -math.inf))
        if standing.text != text and now - said >= _LINE_SECONDS:
            self._said[standing.instance] = (standing.text, now)
            self._reporter.phase("wait", f"for {standing.instance}: {standing.text}")
