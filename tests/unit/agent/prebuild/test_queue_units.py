"""Builds ahead as services of systemd, and what their commands are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from modulus.agent.loop import Loop
from modulus.agent.prebuild.setup import HoldSetting, make_queue
from modulus.core.instance import Instance
from modulus.core.status.boot_hold import UnitState
from modulus.errors import ModulusError
from modulus.pipeline.site import Site
from tests.support.mainloop import run_until
from tests.support.prebuilding import Bench, ahead
from tests.support.quiet import QUIET

UNIT = "modulus-build@driver-1.0.service"
REST = UnitState("loaded", "inactive", "dead", "success", 0, False, False)
BUSY = replace(REST, active="activating", sub="start")


@dataclass
class FakeUnits:
    state: UnitState = REST
    started: int = 0
    refuses: bool = False
    hears: Callable[[UnitState], object] | None = None

    def on_unit(self, name: str, callback: Callable[[UnitState], object]) -> Callable[[], None]:
        assert name == UNIT
        self.hears = callback
        callback(self.state)

        def cancel() -> None:
            self.hears = None

        return cancel

    def start_unit(self, name: str, failed: Callable[[ModulusError], object]) -> None:
        assert name == UNIT
        if self.refuses:
            failed(ModulusError(f"cannot start {name}: not found", "see"))
        else:
            self.started += 1

    def runs(self) -> None:
        self.tells(BUSY)

    def ends(self, result: str = "success", status: int = 0) -> None:
        """The service ends, which is told more than once."""
        active = "inactive" if result == "success" else "failed"
        for _ in range(2):
            self.tells(replace(REST, active=active, result=result, exit_status=status))

    def tells(self, state: UnitState) -> None:
        self.state = state
        if self.hears:
            self.hears(state)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "root").mkdir()
    made = Bench(tmp_path)
    made.codes(0)
    yield made
    for queue in made.lanes:
        queue.stop()


def test_where_systemd_runs_it_is_a_service(bench: Bench) -> None:
    units = FakeUnits()
    queue = bench.queue(UNIT)
    queue.look()
    assert not queue.running, "the bus comes later"
    queue.attach(units)
    assert units.started == 1 and queue.running and bench.hold.held
    # Of the time before it was started.
    units.tells(replace(REST, active="failed", result="exit-code", exit_status=14))
    assert queue.running
    units.runs()
    units.ends()
    assert bench.events == ["driver-1.0 is ready for 6.2"] and not queue.running
    assert not bench.hold.held
    queue.look()
    assert units.started == 1 and bench.runs == []


def test_one_that_came_and_went_unseen_has_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modulus.agent.prebuild.queue._UNSEEN", 0.01)
    units = FakeUnits()
    queue = bench.queue(UNIT)
    queue.attach(units)
    queue.look()
    units.ends("exit-code", 203)
    run_until(lambda: bench.events)
    assert bench.events[0].endswith("exit code 203")


def test_a_build_that_runs_already_is_found(bench: Bench) -> None:
    units = FakeUnits(BUSY)
    queue = bench.queue(UNIT)
    queue.attach(units)
    assert queue.running and bench.hold.held
    queue.look()
    assert units.started == 0
    units.ends()
    assert bench.events == ["driver-1.0 is ready for 6.2"] and units.started == 0


def test_one_that_somebody_starts_counts_too(bench: Bench) -> None:
    units = FakeUnits()
    queue = bench.queue(UNIT)
    queue.attach(units)
    units.runs()
    assert queue.running and bench.hold.held
    units.ends()
    queue.look()
    assert units.started == 0 and bench.events == ["driver-1.0 is ready for 6.2"]


@pytest.mark.parametrize(
    ("result", "status", "text"),
    [
        ("exit-code", 14, "exit code 14"),
        ("oom-kill", 0, "exit code 1"),
        ("signal", 9, "exit code 1"),
        # Stopped: by a signal, or as modulus ends for one.
        ("success", 15, "exit code 143"),
        ("success", 143, "exit code 143"),
    ],
)
def test_a_service_that_fails_is_waited_out(
    bench: Bench, result: str, status: int, text: str
) -> None:
    units = FakeUnits()
    queue = bench.queue(UNIT)
    queue.attach(units)
    queue.look()
    units.runs()
    units.ends(result, status)
    assert len(bench.events) == 1 and bench.events[0].endswith(f"ended with {text}")
    assert units.started == 1 and not queue.running


def test_one_that_ends_while_the_bus_is_away_is_noticed(bench: Bench) -> None:
    units = FakeUnits()
    queue = bench.queue(UNIT)
    queue.attach(units)
    queue.look()
    units.runs()
    queue.detach()
    queue.look()
    assert queue.running and bench.hold.held
    units.state = replace(REST, active="failed", result="exit-code", exit_status=11)
    queue.attach(units)
    assert bench.events[0].endswith("exit code 11") and not queue.running


def test_one_of_which_nothing_was_heard_is_asked_for_again(bench: Bench) -> None:
    """It may have been started or not: no success must be made of that."""
    units = FakeUnits()
    queue = bench.queue(UNIT)
    queue.attach(units)
    queue.look()
    queue.detach()
    assert not queue.running
    queue.attach(units)
    assert units.started == 2 and queue.running and bench.events == []


def test_without_the_service_it_is_a_child(bench: Bench) -> None:
    units = FakeUnits(refuses=True)
    queue = bench.queue(UNIT)
    queue.attach(units)
    queue.look()
    bench.settle()
    assert len(bench.runs) == 1 and bench.events == ["driver-1.0 is ready for 6.2"]
    assert "not found; the build is a child of the agent" in bench.log.getvalue()


def test_stopped_it_leaves_the_service_alone(bench: Bench) -> None:
    units = FakeUnits()
    queue = bench.queue(UNIT)
    queue.attach(units)
    queue.look()
    units.runs()
    queue.stop()
    assert units.hears is None and bench.events == [] and not bench.hold.held


def test_the_kernel_that_runs_is_not_ahead(tmp_path: Path) -> None:
    for release in ("6.1", "6.2"):
        folder = tmp_path / "lib/modules" / release
        folder.mkdir(parents=True)
        (folder / "modules.builtin").touch()
    proc = tmp_path / "proc/sys/kernel"
    proc.mkdir(parents=True)
    (proc / "osrelease").write_text("6.1\n")
    before = ahead(tmp_path)
    assert list(before) == ["6.2"]
    settings = tmp_path / "etc/modulus/modulus.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("flavour: open\n")
    assert ahead(tmp_path)["6.2"].inputs != before["6.2"].inputs
    (tmp_path / "var/cache/modulus/builds/6.2/abc").mkdir(parents=True)
    assert ahead(tmp_path)["6.2"].stored == {"abc"}


def test_its_command_has_the_agents_options(tmp_path: Path) -> None:
    site = Site(tmp_path, tmp_path / "c", ("numa_fix=true",), 5)
    queue = make_queue(site, Instance("driver", "1.0"), QUIET, Loop(), lambda _: None, None)
    ahead = queue._ahead
    assert ahead.unit is None
    assert ahead.command[1:] == (
        "-I", "-m", "modulus", "build", "driver-1.0", "--all-kernels", f"--root={tmp_path}",
        f"--config={tmp_path / 'c'}", "--set=numa_fix=true",
    )  # fmt: skip


def test_a_shutdown_is_held_as_the_settings_say_now(tmp_path: Path) -> None:
    site = Site(tmp_path, None, (), None)
    setting = HoldSetting(site)
    assert setting() == 0
    settings = tmp_path / "etc/modulus/modulus.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("hold_reboot: 15m\n")
    assert setting() == 900
    # Whoever works with it says what is wrong; until then it stays.
    settings.write_text("hold_reboot: soon\n")
    assert setting() == 900


def test_a_look_takes_up_how_long_a_shutdown_is_held(bench: Bench) -> None:
    bench.kernels.clear()
    seconds: list[float | None] = [None, 900.0]
    queue = bench.queue(hold_reboot=lambda: seconds.pop(0))
    queue.look()
    assert bench.hold.wanted == []
    queue.look()
    assert bench.hold.wanted == [900]
