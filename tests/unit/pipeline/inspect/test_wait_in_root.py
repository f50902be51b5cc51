"""The wait itself, in a root, for units that a stand-in for systemd has."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from modulus.core.instance import Instance
from modulus.core.status.boot_hold import (
    UnitState,
    unit_name,
)
from modulus.core.status.state import Failure, State
from modulus.errors import LockedError, ModulusError
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import write_selected
from modulus.host.report.reporter import JournalReporter
from modulus.host.status.files import remove_state, write_state
from modulus.pipeline.inspect.wait import Waited, wait
from modulus.pipeline.site import Site

UNIT = UnitState("loaded", "inactive", "dead", "success", 0, job=False, enabled=True)
BUSY = Failure(17, "in use", "stop it")
BUILDING = State("driver-1.0", "build", 0.43)
BROKEN = State("driver-1.0", "failed", error=BUSY)


class World:
    """A root where every half second the next thing happens; the time is its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = io.StringIO()
        self.now = 1000.0

    def write(self, *states: State) -> None:
        for state in states:
            write_state(self.root, state)

    def wait(
        self,
        timeout: float | None,
        *happening: Callable[[], object],
        settings: Sequence[str] = (),
    ) -> Waited:
        site = Site(self.root, None, tuple(settings), 0)
        left = list(happening)

        def sleep(seconds: float) -> None:
            self.now += seconds
            if left:
                left.pop(0)()

        return wait(
            site, JournalReporter(self.log), timeout, clock=lambda: self.now, sleep=sleep
        )

    @property
    def said(self) -> list[str]:
        return self.log.getvalue().splitlines()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_to_wait_for_is_no_wait(world: World) -> None:
    assert world.wait(None) == Waited(())
    assert world.now == 1000
    assert world.said == ["<6>wait: for nothing: no driver is being started"]


def test_it_waits_until_the_driver_is_ready(world: World) -> None:
    world.write(BUILDING)
    done = world.wait(
        60,
        lambda: world.write(replace(BUILDING, phase="verify", progress=None)),
        lambda: world.write(State("driver-1.0", "ready")),
    )
    assert (done.code, world.now) == (0, 1001)
    assert done.value() == {
        "instances": [{"instance": "driver-1.0", "ready": True, "error": None}]
    }
    assert world.said == [
        "<6>wait: for driver-1.0: build: 43 %",
        "<6>wait: driver-1.0 is ready",
    ]


def test_a_permanent_failure_ends_it_with_its_cause(world: World) -> None:
    world.write(BUILDING)
    done = world.wait(60, lambda: world.write(BROKEN))
    assert done.code == 17
    assert done.value()["error"] == {"code": 17, "message": "in use", "hint": "stop it"}
    assert world.said[-2:] == [
        "<3>modulus: error: driver-1.0: in use",
        "<3>modulus: hint: stop it",
    ]


def test_it_waits_for_all_drivers_and_tells_of_the_first_failure(world: World) -> None:
    world.write(BROKEN, State("other-2.0", "load"), State("small-0.3", "build"))
    done = world.wait(
        60,
        lambda: world.write(State("small-0.3", "ready")),
        lambda: world.write(State("other-2.0", "ready")),
    )
    assert done.code == 17
    assert [standing.instance for standing in done.standings] == [
        "driver-1.0",
        "small-0.3",
        "other-2.0",
    ]
    assert world.now == 1001


@pytest.mark.parametrize(
    ("timeout", "settings", "seconds"),
    [
        (3, (), 3),
        (0, (), 0),
        (3, ("boot_hold=0",), 3),
        (None, ("boot_hold=5s",), 5),
        (None, ("boot_hold=5s", "drivers.driver.boot_hold=7s"), 7),
        (None, (), 15 * 60),
    ],
)
def test_it_does_not_wait_for_ever(
    world: World, timeout: float | None, settings: tuple[str, ...], seconds: float
) -> None:
    world.write(BUILDING)
    done = world.wait(timeout, settings=settings)
    assert done.code == 20
    assert 0 <= world.now - 1000 - seconds < 2
    assert done.error is not None
    assert f"waited past {seconds} s" in done.error.message
    assert "build: 43 %" in done.error.message
    assert world.said[-1].startswith("<3>modulus: hint: see modulus status driver-1.0")


def test_a_boot_hold_of_zero_holds_nothing(world: World) -> None:
    world.write(BUILDING)
    done = world.wait(None, settings=["boot_hold=0"])
    assert (done.code, world.now) == (0, 1000)
    assert done.value()["instances"][0]["ready"] is False
    assert world.said == ["<6>wait: not for driver-1.0: boot_hold is 0"]


def test_the_selected_instance_counts(world: World) -> None:
    world.write(State("driver-0.9", "ready"), BUILDING)
    assert world.wait(0).standings[0].instance == "driver-0.9"
    write_selected(DriverPaths(world.root, "driver"), Instance("driver", "1.0"))
    assert world.wait(0).code == 20


def enable(root: Path, instance: str) -> None:
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / unit_name(instance)).symlink_to("/lib/systemd/system/modulus@.service")


def test_without_a_bus_what_is_enabled_is_waited_for(world: World) -> None:
    enable(world.root, "driver-1.0")
    done = world.wait(
        60, *[lambda: None] * 4, lambda: world.write(State("driver-1.0", "ready"))
    )
    assert (done.code, world.now) == (0, 1002.5)
    assert world.said == [
        "<4>modulus: warning: systemd is asked again and again: there is no system bus",
        "<6>wait: for driver-1.0: systemd cannot be asked",
        "<6>wait: driver-1.0 is ready",
    ]


def test_without_a_bus_it_is_not_waited_for_ever(world: World) -> None:
    enable(world.root, "driver-1.0")
    assert (world.wait(5).code, world.now) == (20, 1005)


def test_where_nothing_is_enabled_the_bus_is_not_missed(world: World) -> None:
    (world.root / "run/systemd/system").mkdir(parents=True)
    assert world.wait(None) == Waited(())
    assert world.said == ["<6>wait: for nothing: no driver is being started"]


class Systemd:
    """Answers with each of ``answers`` once, the last one again and again."""

    answers: ClassVar[list[UnitState | ModulusError]] = []
    closed = 0

    def list_instances(self) -> tuple[str, ...]:
        if isinstance(self.answers[0], ModulusError):
            raise self.answers.pop(0)  # type: ignore[misc]
        return ("driver-1.0",)

    def unit_state(self, name: str) -> UnitState:
        assert name == unit_name("driver-1.0")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        assert isinstance(answer, UnitState)
        return answer

    def close(self) -> None:
        Systemd.closed += 1


STARTING = replace(UNIT, active="activating", sub="start")
RUNNING = replace(UNIT, active="active", sub="running")
GONE = ModulusError("cannot list units: the connection is closed", "see whether it answers")


@pytest.mark.parametrize("begin", [[], [STARTING]])
def test_trouble_with_the_bus_lets_no_boot_go(
    world: World, monkeypatch: pytest.MonkeyPatch, begin: list[UnitState | ModulusError]
) -> None:
    monkeypatch.setattr("modulus.host.bus.endpoint.available", lambda _: True)
    monkeypatch.setattr("modulus.pipeline.inspect.wait.Systemd", Systemd)
    monkeypatch.setattr(Systemd, "closed", 0)
    silent = LockedError("no answer within 25 s", "see whether systemctl answers")
    monkeypatch.setattr(
        Systemd, "answers", [*begin, GONE, STARTING, STARTING, silent, STARTING, RUNNING]
    )
    enable(world.root, "driver-1.0")
    assert world.wait(60).code == 0
    assert world.now == 1000 + 0.5 * (5 + len(begin))
    warned = [line for line in world.said if line.startswith("<4>")]
    assert warned == [f"<4>modulus: warning: systemd is asked again and again: {GONE.message}"]
    assert Systemd.closed == 3


def test_a_bus_that_stays_away_is_waited_for_so_long_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise GONE

    monkeypatch.setattr("modulus.host.bus.endpoint.available", lambda _: True)
    monkeypatch.setattr("modulus.pipeline.inspect.wait.Systemd", refuse)
    enable(world.root, "driver-1.0")
    assert (world.wait(5).code, world.now) == (20, 1005)


def test_what_is_stopped_meanwhile_is_waited_for_no_more(world: World) -> None:
    world.write(BUILDING)
    assert world.wait(60, lambda: remove_state(world.root, "driver-1.0")).code == 0
    assert world.now == 1000.5


def test_it_says_what_is_new_at_most_every_ten_seconds(world: World) -> None:
    """Half a minute of a build that gets a percent further whenever it is looked at."""
    world.write(replace(BUILDING, progress=0.0))
    steps = [
        lambda percent=percent: world.write(replace(BUILDING, progress=percent / 100))
        for percent in range(1, 61)
    ]
    world.wait(30, *steps)
    assert world.said[:-2] == [
        f"<6>wait: for driver-1.0: build: {percent} %" for percent in (0, 20, 35)
    ]


def test_what_does_not_change_is_said_once(world: World) -> None:
    world.write(BUILDING)
    world.wait(30)
    assert world.said[:-2] == ["<6>wait: for driver-1.0: build: 43 %"]
