"""Builds ahead: a real child, or a service manager that takes notes in its place."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from modulus.agent.loop import Loop
from modulus.agent.prebuild.queue import Ahead, KernelLane
from modulus.agent.prebuild.reboot_hold import Hold
from modulus.agent.prebuild.record import KernelRecord
from modulus.agent.prebuild.setup import make_lane, next_kernels
from modulus.core.agent.events import BUILD, Event
from modulus.core.instance import Instance
from modulus.core.kernel.upcoming import Kernel
from modulus.core.status.boot_hold import UnitState
from modulus.errors import ModulusError
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.site import Site
from tests.support.mainloop import run_until, turn

UNIT = "modulus-build@driver-1.0.service"
REST = UnitState("loaded", "inactive", "dead", "success", 0, False, False)
BUSY = replace(REST, active="activating", sub="start")

CHILD = """
cd "$1"
echo "$(nice)" >>runs
[ ! -e hold ] || { : >held; while [ -e hold ]; do sleep 0.01; done; }
run=$(wc -l <runs)
exit "$(sed -n "${run}p" codes)"
"""


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


class FakeHold(Hold):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def take(self, why: str) -> None:
        self.calls.append("take")

    def release(self) -> None:
        self.calls.append("release")

    @property
    def held(self) -> bool:
        return self.calls[-1:] == ["take"]


@dataclass
class Bench:
    folder: Path
    kernels: dict[str, Kernel] = field(default_factory=lambda: {"6.2": Kernel("a")})
    events: list[str] = field(default_factory=list)
    log: io.StringIO = field(default_factory=io.StringIO)
    hold: FakeHold = field(default_factory=FakeHold)
    clock: float = 1000.0
    lanes: list[KernelLane] = field(default_factory=list)

    def lane(self, unit: str | None = None, poll: float = 60.0) -> KernelLane:
        (self.folder / "child").write_text(CHILD)

        def tell(event: Event) -> None:
            assert event.kind == BUILD
            self.events.append(event.text)

        ahead = Ahead(
            "driver-1.0",
            unit,
            ("/bin/sh", str(self.folder / "child"), str(self.folder)),
            {},
            lambda: dict(self.kernels),
            poll,
        )
        record = KernelRecord(self.folder / "root", "driver-1.0", self._complain)
        reporter = PlainReporter(self.log)
        lane = KernelLane(ahead, record, Loop(), reporter, tell, self.hold, lambda: self.clock)
        self.lanes.append(lane)
        return lane

    def codes(self, *codes: int) -> None:
        (self.folder / "codes").write_text("".join(f"{code}\n" for code in (*codes, 0)))

    @property
    def runs(self) -> list[str]:
        path = self.folder / "runs"
        return path.read_text().splitlines() if path.exists() else []

    def settle(self) -> None:
        """Runs until no build is under way."""
        run_until(lambda: not any(lane.running for lane in self.lanes))

    def _complain(self, error: Exception) -> None:
        raise error


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "root").mkdir()
    made = Bench(tmp_path)
    made.codes(0)
    yield made
    for lane in made.lanes:
        lane.stop()


def test_a_new_kernel_is_built_for_and_that_once(bench: Bench) -> None:
    lane = bench.lane()
    lane.look()
    assert lane.running and bench.hold.held
    bench.settle()
    assert bench.events == ["driver-1.0 is ready for 6.2"]
    assert not bench.hold.held
    lane.look()
    # Nor does the next agent.
    bench.lane().look()
    turn()
    assert len(bench.runs) == 1
    assert "build: driver-1.0 ahead of the next boot: 6.2" in bench.log.getvalue()


def test_it_is_in_no_hurry(bench: Bench) -> None:
    bench.lane().look()
    bench.settle()
    assert bench.runs == [str(min(19, os.getpriority(os.PRIO_PROCESS, 0) + 19))]


def test_where_only_the_running_kernel_is_installed_nothing_runs(bench: Bench) -> None:
    bench.kernels.clear()
    bench.lane().look()
    assert not bench.lanes[0].running and bench.runs == []


def test_what_comes_meanwhile_is_built_next_and_still_held(bench: Bench) -> None:
    (bench.folder / "hold").touch()
    lane = bench.lane()
    lane.look()
    run_until((bench.folder / "held").exists)
    bench.kernels["6.3"] = Kernel("b")
    lane.look("kernel 6.3 was installed")
    lane.look("once more")
    (bench.folder / "hold").unlink()
    run_until(lambda: len(bench.runs) == 2)
    assert bench.hold.held and "release" not in bench.hold.calls
    bench.settle()
    assert len(bench.runs) == 2
    assert bench.events == [
        "driver-1.0 is ready for 6.2",
        "driver-1.0 is ready for 6.2, 6.3",
    ]
    assert "watch: kernel 6.3 was installed" in bench.log.getvalue()


def test_a_failure_is_said_and_tried_again_in_time(bench: Bench) -> None:
    bench.codes(14)
    lane = bench.lane(poll=0.01)
    lane.look()
    bench.settle()
    text = bench.log.getvalue()
    assert "modulus: error: driver-1.0 is not ready for every installed kernel (6.2)" in text
    assert "modulus: hint: do not reboot yet" in text and "again in 1:00 min" in text
    assert not bench.hold.held
    # The next agent waits for the rest of the time.
    lane.stop()
    bench.lane(poll=0.01).look()
    turn()
    assert len(bench.runs) == 1
    bench.clock += 61
    run_until(lambda: len(bench.runs) == 2)
    bench.settle()
    assert bench.events[-1] == "driver-1.0 is ready for 6.2"


def test_other_inputs_are_tried_at_once(bench: Bench) -> None:
    bench.codes(15)
    lane = bench.lane(poll=0.01)
    lane.look()
    bench.settle()
    bench.kernels["6.2"] = Kernel("other settings")
    run_until(lambda: len(bench.runs) == 2)
    bench.settle()
    assert bench.events[-1] == "driver-1.0 is ready for 6.2"


def test_stopped_it_ends_its_child_and_begins_nothing(bench: Bench) -> None:
    (bench.folder / "hold").touch()
    lane = bench.lane()
    lane.look()
    run_until((bench.folder / "held").exists)
    lane.stop()
    run_until(lambda: not lane.running)
    lane.look()
    assert not lane.running and bench.events == [] and not bench.hold.held


def test_where_systemd_runs_it_is_a_service(bench: Bench) -> None:
    units = FakeUnits()
    lane = bench.lane(UNIT)
    lane.look()
    assert not lane.running, "the bus comes later"
    lane.attach(units)
    assert units.started == 1 and lane.running and bench.hold.held
    # Of the time before it was started.
    units.tells(replace(REST, active="failed", result="exit-code", exit_status=14))
    assert lane.running
    units.runs()
    units.ends()
    assert bench.events == ["driver-1.0 is ready for 6.2"] and not lane.running
    assert not bench.hold.held
    lane.look()
    assert units.started == 1 and bench.runs == []


def test_one_that_came_and_went_unseen_has_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modulus.agent.prebuild.queue._UNSEEN", 0.01)
    units = FakeUnits()
    lane = bench.lane(UNIT)
    lane.attach(units)
    lane.look()
    units.ends("exit-code", 203)
    run_until(lambda: bench.events)
    assert bench.events[0].endswith("exit code 203")


def test_a_build_that_runs_already_is_found(bench: Bench) -> None:
    units = FakeUnits(BUSY)
    lane = bench.lane(UNIT)
    lane.attach(units)
    assert lane.running and bench.hold.held
    lane.look()
    assert units.started == 0
    units.ends()
    assert bench.events == ["driver-1.0 is ready for 6.2"] and units.started == 0


def test_one_that_somebody_starts_counts_too(bench: Bench) -> None:
    units = FakeUnits()
    lane = bench.lane(UNIT)
    lane.attach(units)
    units.runs()
    assert lane.running and bench.hold.held
    units.ends()
    lane.look()
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
    lane = bench.lane(UNIT)
    lane.attach(units)
    lane.look()
    units.runs()
    units.ends(result, status)
    assert len(bench.events) == 1 and bench.events[0].endswith(f"ended with {text}")
    assert units.started == 1 and not lane.running


def test_one_that_ends_while_the_bus_is_away_is_noticed(bench: Bench) -> None:
    units = FakeUnits()
    lane = bench.lane(UNIT)
    lane.attach(units)
    lane.look()
    units.runs()
    lane.detach()
    lane.look()
    assert lane.running and bench.hold.held
    units.state = replace(REST, active="failed", result="exit-code", exit_status=11)
    lane.attach(units)
    assert bench.events[0].endswith("exit code 11") and not lane.running


def test_one_of_which_nothing_was_heard_is_asked_for_again(bench: Bench) -> None:
    """It may have been started or not: no success must be made of that."""
    units = FakeUnits()
    lane = bench.lane(UNIT)
    lane.attach(units)
    lane.look()
    lane.detach()
    assert not lane.running
    lane.attach(units)
    assert units.started == 2 and lane.running and bench.events == []


def test_without_the_service_it_is_a_child(bench: Bench) -> None:
    units = FakeUnits(refuses=True)
    lane = bench.lane(UNIT)
    lane.attach(units)
    lane.look()
    bench.settle()
    assert len(bench.runs) == 1 and bench.events == ["driver-1.0 is ready for 6.2"]
    assert "not found; the build is a child of the agent" in bench.log.getvalue()


def test_stopped_it_leaves_the_service_alone(bench: Bench) -> None:
    units = FakeUnits()
    lane = bench.lane(UNIT)
    lane.attach(units)
    lane.look()
    units.runs()
    lane.stop()
    assert units.hears is None and bench.events == [] and not bench.hold.held


def ahead(root: Path) -> Mapping[str, Kernel]:
    return next_kernels(root, Instance("driver", "1.0"), None)


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
    site = Site(tmp_path, tmp_path / "c", ("numa_fix=true",), 5, PlainReporter(io.StringIO()))
    lane = make_lane(site, Instance("driver", "1.0"), Loop(), lambda _: None, None)
    ahead = lane._ahead
    assert ahead.unit is None
    assert ahead.command[1:] == (
        "-I", "-m", "modulus", "build", "driver-1.0", "--all-kernels", f"--root={tmp_path}",
        f"--config={tmp_path / 'c'}", "--set=numa_fix=true",
    )  # fmt: skip
