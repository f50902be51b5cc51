"""The agent's side of the bus: a private dbus-daemon, with mocks of the system's services."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.agent.loop import Loop
from modulus.agent.show.bus_link import BusLine
from modulus.agent.show.publisher import Publisher
from modulus.core.findings import Finding
from modulus.core.instance import Instance
from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.state import Failure, State
from modulus.errors import ModulusError
from modulus.host.bus.connection import SystemBus
from modulus.host.bus.endpoint import open_connection
from modulus.host.bus.updates import NEED_REBOOT
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import write_selected
from modulus.host.report.reporter import PlainReporter
from modulus.host.status.build_counts import change_record
from modulus.host.status.files import write_state
from tests.support.headertrees import write
from tests.support.mainloop import HandLoop
from tests.support.privatebus import PrivateBus, Steps, drive, private_bus

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning"),
]

OWN = Instance("driver", "1.0")
NAME = "org.modulus1.driver_2d1_2e0"
OBJECT = "/org/modulus1/driver_2d1_2e0"
AGENT = "org.modulus1.Agent"
LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
UPDATES = ("com.coreos.update1", "/com/coreos/update1", "com.coreos.update1.Manager")
SYSTEMD = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
MOCK = "org.freedesktop.DBus.Mock"


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    with private_bus(tmp_path / "run/dbus", monkeypatch) as bus:
        yield bus


class Line:
    """A loop with a line in it, and what came over it."""

    def __init__(self, attach: Callable[[SystemBus], object] = lambda _: None) -> None:
        self.loop = Loop()
        self.attached: list[SystemBus] = []
        self.lost = 0
        self._attach = attach
        self.line = BusLine(self.loop, Path("/"), self._on, self._off)

    def _on(self, bus: SystemBus) -> None:
        self.attached.append(bus)
        self._attach(bus)

    def _off(self) -> None:
        self.lost += 1

    def came(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.attached) == count

    def went(self, count: int) -> Callable[[], bool]:
        return lambda: self.lost == count

    def run(self, steps: Steps) -> None:
        self.line.start()
        try:
            drive(self.loop, steps)
        finally:
            self.line.stop()


class Background:
    """A program whose output is waited for by the loop."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output = ""

    def __call__(self) -> bool:
        if self._process.poll() is None:
            return False
        self.output += self._process.communicate()[0]
        return True


def test_a_bus_that_comes_later_is_found(bus: PrivateBus) -> None:
    line = Line()

    def steps() -> Steps:
        yield lambda: True
        assert not line.attached
        bus.start()
        yield lambda: line.attached

    line.run(steps())
    assert (len(line.attached), line.lost) == (1, 0)


def test_a_lost_bus_is_taken_up_again(bus: PrivateBus) -> None:
    bus.start()
    line = Line()

    def steps() -> Steps:
        for count in (1, 2):
            yield line.came(count)
            bus.stop()
            yield line.went(count)
            bus.start()
        yield lambda: len(line.attached) == 3

    line.run(steps())
    assert (len(line.attached), line.lost) == (3, 2)


def test_a_socket_that_nobody_listens_at_is_tried_again(bus: PrivateBus) -> None:
    line = Line()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(bus.socket))

        def steps() -> Steps:
            yield lambda: line.line._failures
            bus.socket.unlink()
            bus.start()
            yield lambda: line.attached

        line.run(steps())


def test_more_failures_than_a_float_has_doublings_for_end_nothing(bus: PrivateBus) -> None:
    loop = HandLoop()
    attached: list[SystemBus] = []
    line = BusLine(loop, Path("/"), attached.append, lambda: None)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(bus.socket))
        line.start()
        while line._failures < 1100:
            loop.turn()
    bus.socket.unlink()
    bus.start()
    while not attached:
        loop.turn()
    line.stop()


def test_another_root_has_no_line(bus: PrivateBus, tmp_path: Path) -> None:
    bus.start()
    loop = Loop()
    attached: list[SystemBus] = []
    line = BusLine(loop, tmp_path, attached.append, lambda: None)
    line.start()
    other = Line()

    def steps() -> Steps:
        yield lambda: other.attached

    other.run(steps())
    line.stop()
    assert attached == []


def test_a_line_can_be_stopped_while_it_connects_and_started_again(bus: PrivateBus) -> None:
    bus.start()
    while not bus.socket.exists():
        time.sleep(0.01)
    line = Line()

    def steps() -> Steps:
        # It has been started, and the loop has not turned since.
        line.line.stop()
        line.line.start()
        line.line.stop()
        line.line.start()
        yield lambda: line.attached

    line.run(steps())
    assert len(line.attached) == 1


def test_what_a_callback_raises_ends_the_loop(bus: PrivateBus) -> None:
    def attach(_: SystemBus) -> None:
        raise KeyError("wrong")

    bus.start()
    with pytest.raises(KeyError, match="wrong"):
        Line(attach).run(iter([lambda: False]))


def test_logind_is_heard_and_asked(bus: PrivateBus) -> None:
    heard: list[object] = []
    refused: list[ModulusError] = []

    def attach(connected: SystemBus) -> None:
        connected.on_shutdown(lambda begun: heard.append(begun))
        connected.ask_inhibit_delay(heard.append)
        connected.reload_logind(refused.append)

    def steps() -> Steps:
        yield lambda: heard == [30.0]
        bus.emit(*LOGIND, "PrepareForShutdown", "b", "b", "true")
        yield lambda: heard == [30.0, True]
        bus.emit(*LOGIND, "PrepareForShutdown", "b", "b", "false")
        yield lambda: heard == [30.0, True, False]

    bus.start()
    bus.mock("--template", "logind")
    delay = ("AddProperty", "ssv", LOGIND[2], "InhibitDelayMaxUSec", "t", "30000000")
    bus.call(*LOGIND[:2], MOCK, *delay)
    bus.mock(*SYSTEMD)
    bus.call(*SYSTEMD[:2], MOCK, "AddMethod", "sssss", SYSTEMD[2], "KillUnit", "ssi", "", "")
    Line(attach).run(steps())
    assert not refused
    assert bus.called('KillUnit "systemd-logind.service" "main" 1')


def test_without_logind_nothing_is_told(bus: PrivateBus) -> None:
    heard: list[object] = []
    refused: list[ModulusError] = []

    def attach(connected: SystemBus) -> None:
        connected.ask_inhibit_delay(heard.append)
        connected.reload_logind(refused.append)

    bus.start()
    Line(attach).run(iter([lambda: refused]))
    assert heard == []


def test_an_update_is_heard_of_at_once_or_when_it_comes(bus: PrivateBus) -> None:
    heard: list[tuple[str, str]] = []

    def attach(connected: SystemBus) -> None:
        connected.on_update(lambda *told: heard.append(told))

    def steps() -> Steps:
        yield lambda: heard == [("UPDATE_STATUS_IDLE", "0.0.0")]
        values = ("x", "1", "d", "1.0", "s", NEED_REBOOT, "s", "3510.2.1", "x", "9")
        bus.emit(*UPDATES, "StatusUpdate", "xdssx", *values)
        yield lambda: heard[-1] == (NEED_REBOOT, "3510.2.1")

    bus.start()
    bus.mock(*UPDATES)
    answer = 'ret = (0, 0.0, "UPDATE_STATUS_IDLE", "0.0.0", 0)'
    bus.call(
        *UPDATES[:2], MOCK, "AddMethod", "sssss", UPDATES[2], "GetStatus", "", "xdssx", answer
    )
    Line(attach).run(steps())
    assert len(heard) == 2


def test_a_systemd_that_comes_anew_is_subscribed_to_again(bus: PrivateBus) -> None:
    reloaded: list[bool] = []

    def mock() -> None:
        bus.mock(*SYSTEMD)
        bus.call(*SYSTEMD[:2], MOCK, "AddMethod", "sssss", SYSTEMD[2], "Subscribe", "", "", "")

    def steps() -> Steps:
        yield lambda: bus.called("Subscribe")
        assert reloaded == []
        bus.end_mocks()
        mock()
        yield lambda: bus.called("Subscribe", 2)
        bus.emit(*SYSTEMD, "Reloading", "b", "b", "true")
        yield lambda: reloaded == [False, True]

    bus.start()
    mock()
    Line(lambda connected: connected.on_reloading(reloaded.append)).run(steps())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    kernel = root / "lib/modules/6.1.0-1-amd64"
    kernel.mkdir(parents=True)
    (kernel / "modules.builtin").touch()
    return root


class Asked:
    """An agent's object on the bus, and what it was asked for."""

    def __init__(self, root: Path, metrics: str | None = None) -> None:
        self.asked: list[str] = []
        self.line = Line(lambda connected: self.publisher.attach(connected))
        self.publisher = Publisher(
            self.line.loop,
            root,
            OWN,
            PlainReporter(),
            rebuild=lambda: self.asked.append("rebuild"),
            verify=lambda: self.asked.append("verify"),
            metrics_dir=lambda: metrics,
        )

    def run(self, steps: Steps) -> None:
        self.publisher.start()
        try:
            self.line.run(steps)
        finally:
            self.publisher.stop()


def test_a_person_can_read_what_is_on_the_bus(bus: PrivateBus, root: Path) -> None:
    bus.start()
    asked = Asked(root)
    finding = Finding("gpu-dead", "usable", "error", "a GPU is dead", "fell off", "reseat it")
    state = State(
        "driver-1.0", "build", progress=0.43, selected=True, findings=(finding,),
        error=Failure(14, "compiler", "look"),
    )  # fmt: skip
    write_state(root, state)
    write_selected(DriverPaths(root, "driver"), OWN)
    asks = (
        ("introspect", NAME, OBJECT, AGENT),
        ("get-property", NAME, OBJECT, AGENT, "Findings"),
        ("call", NAME, OBJECT, AGENT, "Verify"),
        ("call", NAME, OBJECT, AGENT, "Rebuild"),
        ("get-property", NAME, OBJECT, AGENT, "None"),
    )
    answers: list[Background] = []

    def steps() -> Steps:
        yield lambda: asked.line.attached
        for words in asks:
            answers.append(Background(bus.busctl(*words)))
            yield answers[-1]

    asked.run(steps())
    shown, findings, verify, rebuild, nothing = (answer.output for answer in answers)
    members = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[1:]}
    assert {name: words[:3] for name, words in members.items()} == {
        ".Rebuild": ["method", "-", "-"],
        ".Verify": ["method", "-", "-"],
        ".Active": ["property", "s", '""'],
        ".Error": ["property", "s", '"compiler"'],
        ".ErrorCode": ["property", "i", "14"],
        ".Hint": ["property", "s", '"look"'],
        ".Findings": ["property", "aa{sv}", "1"],
        ".Generation": ["property", "s", '""'],
        ".HoldSeconds": ["property", "d", "-1"],
        ".Instance": ["property", "s", '"driver-1.0"'],
        ".Kernels": ["property", "a(sb)", "1"],
        ".Key": ["property", "s", '""'],
        ".Phase": ["property", "s", '"build"'],
        ".Progress": ["property", "d", "0.43"],
        ".SecondsLeft": ["property", "d", "-1"],
        ".Selected": ["property", "s", '"driver-1.0"'],
        ".Since": ["property", "s", '""'],
        ".PhaseChanged": ["signal", "s", "-"],
    }
    assert members[".Kernels"][2:5] == ["1", '"6.1.0-1-amd64"', "false"]
    assert members[".Phase"][-1] == "emits-change"
    assert '"id" s "gpu-dead" "level" s "usable" "severity" s "error"' in findings
    assert (verify, rebuild) == ("", "")
    assert "None" in nothing
    assert asked.asked == ["verify", "rebuild"]


def test_changes_are_told(bus: PrivateBus, root: Path) -> None:
    bus.start()
    asked = Asked(root)
    told: list[tuple[str, Any]] = []

    def steps() -> Steps:
        yield lambda: asked.line.attached
        other = open_connection(bus.address).pydbus
        with other.subscribe(object=OBJECT, signal_fired=lambda *s: told.append(s[3:])):
            ask = Background(bus.busctl("get-property", NAME, OBJECT, AGENT, "Phase"))
            yield ask
            write_state(root, State("driver-1.0", "build", progress=0.1))
            yield lambda: told[-1:] == [("PhaseChanged", ("build",))]
            write_state(root, State("driver-1.0", "build", progress=0.2))
            yield lambda: len(told) == 3
            change_record(root, "driver-1.0", BuildRecord.with_hit)
            write_selected(DriverPaths(root, "driver"), Instance("driver", "2.0"))
            asked.publisher.refresh()
            yield lambda: len(told) == 4
        other.con.close_sync(None)

    asked.run(steps())
    changes = {"Phase": "build", "Progress": 0.1}
    assert told == [
        ("PropertiesChanged", (AGENT, changes, [])),
        ("PhaseChanged", ("build",)),
        ("PropertiesChanged", (AGENT, {"Progress": 0.2}, [])),
        ("PropertiesChanged", (AGENT, {"Selected": "driver-2.0"}, [])),
    ]


RECORD = {"built": 1, "failed": 0, "hits": 0, "seconds": {}, "kernels": []}


@pytest.mark.parametrize(
    "change",
    [
        {"kernels": [{"release": 6, "ready": [], "default_boot": None}]},
        {"kernels": [{"release": "6.1", "ready": {}, "default_boot": {}}]},
        {"kernels": [6.1]},
        {"seconds": {"6.1": 10**400}},
        {"seconds": {"6.1": "nan"}, "hits": 10**400},
    ],
)
def test_a_record_of_any_kind_is_outlived(
    bus: PrivateBus, root: Path, change: dict[str, Any]
) -> None:
    bus.start()
    asked = Asked(root, "/srv/metrics")
    record = root / "run/modulus/builds/driver-1.0.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({**RECORD, **change}))
    (root / "lib/modules/6.1.0-1-amd64").rename(root / "lib/modules/6.1-\udcff")

    def steps() -> Steps:
        yield lambda: asked.line.attached
        write_state(root, State("driver-1.0", "build"))
        asked.publisher.refresh()
        record.with_name("new").write_text(json.dumps(RECORD))
        record.with_name("new").rename(record)
        yield lambda: asked.publisher._service.Phase == "build"
        kernels = Background(bus.busctl("get-property", NAME, OBJECT, AGENT, "Kernels"))
        yield kernels
        assert kernels.output == 'a(sb) 1 "6.1-?" false\n'

    asked.run(steps())


def test_it_is_there_again_after_the_bus_was_lost(bus: PrivateBus, root: Path) -> None:
    bus.start()
    asked = Asked(root)
    write_state(root, State("driver-1.0", "wait"))

    def steps() -> Steps:
        yield lambda: asked.line.attached
        bus.stop()
        # Nobody is there to tell.
        write_state(root, State("driver-1.0", "verify"))
        yield lambda: asked.line.lost
        bus.start()
        yield lambda: len(asked.line.attached) == 2
        phase = Background(bus.busctl("get-property", NAME, OBJECT, AGENT, "Phase"))
        yield phase
        assert phase.output == 's "verify"\n'

    asked.run(steps())


def test_only_one_agent_has_the_name(
    bus: PrivateBus, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.start()
    first, second = Asked(root), Asked(root)

    second.line.line = BusLine(first.line.loop, Path("/"), second.line._on, second.line._off)

    def steps() -> Steps:
        yield lambda: first.line.attached
        second.line.line.start()
        yield lambda: second.line.attached
        second.line.line.stop()

    first.run(steps())
    assert "cannot be asked over the bus: cannot be org.modulus1.driver_2d1_2e0" in (
        capsys.readouterr().err
    )


def test_status_asks_the_agent(bus: PrivateBus, root: Path) -> None:
    """The state is below another root, so that only the agent can have told of it."""
    bus.start()
    asked = Asked(root)
    finding = Finding("odd", "nodes", "warning", "odd", "because", "fix it")
    write_state(root, State("driver-1.0", "build", 0.43, 61.0, findings=(finding,)))
    command = [sys.executable, "-m", "modulus", "status", "driver-1.0", "--json"]
    told: list[Background] = []

    def steps() -> Steps:
        yield lambda: asked.line.attached
        told.append(Background(command, bus.env))
        yield told[-1]

    asked.run(steps())
    told.append(Background(command, bus.env))
    while not told[-1]():
        time.sleep(0.05)
    found, left = (json.loads(each.output)["instances"][0] for each in told)
    assert (found["phase"], found["progress"], found["eta_s"]) == ("build", 0.43, 61.0)
    assert [each["id"] for each in found["findings"]] == ["odd"]
    assert (left["phase"], left["findings"]) == (None, [])


def test_metrics_follow_the_state_and_the_builds(bus: PrivateBus, root: Path) -> None:
    path = root / "srv/metrics/modulus-driver-1.0.prom"
    asked = Asked(root, "/srv/metrics")
    own = 'instance="driver-1.0"'

    def has(*lines: str) -> Callable[[], bool]:
        return lambda: set(lines) <= set(path.read_text().splitlines())

    def steps() -> Steps:
        yield has(f"modulus_ready{{{own}}} 0")
        write_state(root, State("driver-1.0", "watch", active=True, key="k"))
        yield has(f"modulus_ready{{{own}}} 1", f'modulus_phase{{{own},phase="watch"}} 1')
        change_record(root, "driver-1.0", BuildRecord.with_hit)
        change_record(root, "driver-1.0", lambda record: record.with_built("6.1", 7.5))
        yield has(
            f"modulus_cache_hits_total{{{own}}} 1",
            f'modulus_builds_total{{{own},result="built"}} 1',
            f'modulus_build_seconds{{{own},kernel="6.1"}} 7.5',
            f'modulus_kernel_ready{{{own},kernel="6.1.0-1-amd64",default_boot="true"}} 0',
        )

    asked.run(steps())
    assert list(path.parent.iterdir()) == []
    failing = Asked(root, "/srv/metrics")

    def failure() -> Steps:
        # The counts of before.
        yield has(f"modulus_cache_hits_total{{{own}}} 1")
        write_state(root, State("driver-1.0", "failed", error=Failure(16, "refused", "sign")))
        yield has(f'modulus_phase{{{own},phase="failed"}} 1')

    failing.run(failure())
    assert path.exists()


def test_counts_that_somebody_damaged_are_none_and_told_once(
    bus: PrivateBus, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "srv/metrics/modulus-driver-1.0.prom"
    counts = root / "run/modulus/builds/driver-1.0.json"
    asked = Asked(root, "/srv/metrics")
    damaged: list[dict[str, object]] = [
        {"built": "many"},
        {"kernels": [{"release": 6, "ready": "yes", "default_boot": None}]},
        {"seconds": {"6.1": 1e400}},
        {"hits": 1 << 80},
    ]

    def shows(phase: str) -> Callable[[], bool]:
        line = f'modulus_phase{{instance="driver-1.0",phase="{phase}"}} 1'
        return lambda: path.exists() and line in path.read_text()

    def steps() -> Steps:
        for change in damaged:
            write(counts, json.dumps({**BuildRecord().value(), **change}))
            for phase in ("build", "watch"):
                write_state(root, State("driver-1.0", phase))
                yield shows(phase)
        assert 'modulus_cache_hits_total{instance="driver-1.0"} 0' in path.read_text()

    asked.run(steps())
    assert capsys.readouterr().err.count("is damaged and not used") == len(damaged)


def test_metrics_that_cannot_be_written_are_told_once(
    bus: PrivateBus, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "srv").write_text("no folder")
    asked = Asked(root, "/srv/metrics")

    def steps() -> Steps:
        write_state(root, State("driver-1.0", "build"))
        yield lambda: asked.publisher._service.Phase == "build"

    asked.run(steps())
    assert capsys.readouterr().err.count("the state is not shown to others: cannot write") == 1
