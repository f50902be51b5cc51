"""The whole resident process, on a private bus with mocks of the system's services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.agent import resident
from modulus.core.generation.recorded_state import RecordedState
from modulus.core.instance import Instance
from modulus.host.bus.updates import NEED_REBOOT
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.recorded_state import write_recorded_state
from tests.support.busagent import AGENT, NAME, OBJECT, Process, wait_for
from tests.support.privatebus import PrivateBus, private_bus

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning"),
]

OWN = Instance("driver", "1.0")
SERVICE, PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
UPDATES = ("com.coreos.update1", "/com/coreos/update1", "com.coreos.update1.Manager")
MOCK = "org.freedesktop.DBus.Mock"
FILE = "/etc/modprobe.d/modulus-driver.conf"


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    with private_bus(tmp_path / "bus", monkeypatch) as bus:
        bus.start()
        yield bus


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc/modprobe.d").mkdir(parents=True)
    (root / FILE[1:]).write_text("right\n")
    write_recorded_state(
        DriverPaths(root, "driver"), RecordedState(str(OWN), "g-1", files={FILE: "right\n"})
    )
    return root


@pytest.fixture
def agent(root: Path, bus: PrivateBus) -> Iterator[Process]:
    agent = Process(root, bus)
    yield agent
    agent.kill()


def mock_systemd(bus: PrivateBus) -> None:
    bus.mock(SERVICE, PATH, f"{SERVICE}.Manager")


def reload(bus: PrivateBus) -> None:
    bus.emit(SERVICE, PATH, f"{SERVICE}.Manager", "Reloading", "b", "b", "false")


def test_what_happens_on_the_bus_has_work_done(
    bus: PrivateBus, root: Path, agent: Process
) -> None:
    wait_for(agent.on_bus, "the agent on the bus")
    assert agent.works == ["up driver-1.0"]
    mock_systemd(bus)
    # All is as it should be, and that is looked at before what is asked for next.
    reload(bus)
    bus.call(NAME, OBJECT, AGENT, "Verify")
    wait_for(lambda: len(agent.works) == 2, "what was asked for")
    (root / FILE[1:]).write_text("wrong\n")
    reload(bus)
    wait_for(lambda: len(agent.works) == 3, "the repair")
    assert agent.works == ["up driver-1.0", "up driver-1.0", "repair driver-1.0"]
    assert f"watch: after systemd has loaded its units anew: {FILE} is changed" in agent.log()
    assert agent.stop() == 0


def test_a_restart_of_the_bus_is_survived(bus: PrivateBus, root: Path, agent: Process) -> None:
    wait_for(agent.on_bus, "the agent on the bus")
    bus.stop()
    bus.start()
    wait_for(agent.on_bus, "the agent on the new bus")
    mock_systemd(bus)
    (root / FILE[1:]).unlink()
    reload(bus)
    wait_for(lambda: "repair driver-1.0" in agent.works, "the repair")
    assert agent.works == ["up driver-1.0", "repair driver-1.0"], "the driver is let be"


def test_a_new_kernel_is_built_for(bus: PrivateBus, root: Path, agent: Process) -> None:
    wait_for(agent.on_bus, "the agent on the bus")
    kernel = root / "lib/modules/6.1.0-9"
    kernel.mkdir(parents=True)
    (kernel / "modules.builtin").touch()
    wait_for(lambda: "ahead" in agent.works, "the build")
    assert "6.1.0-9" in agent.log()


def test_an_update_of_the_system_is_told(bus: PrivateBus, agent: Process) -> None:
    bus.mock(*UPDATES)
    answer = f'ret = (0, 0.0, "{NEED_REBOOT}", "3510.2.1", 0)'
    method = (UPDATES[2], "GetStatus", "", "xdssx", answer)
    bus.call(*UPDATES[:2], MOCK, "AddMethod", "sssss", *method)
    wait_for(agent.on_bus, "the agent on the bus")
    values = ("x", "1", "d", "1.0", "s", NEED_REBOOT, "s", "3510.2.1", "x", "9")
    bus.emit(*UPDATES, "StatusUpdate", "xdssx", *values)
    wait_for(lambda: "version 3510.2.1 of the operating system" in agent.log(), "the update")


def mock_unit(bus: PrivateBus, path: str, values: str) -> None:
    """A unit of systemd's, with one property."""
    interface, name, kind, *value = values.split()
    words = (f"{PATH}/{path}", f"{SERVICE}.{interface}", "a{sv}", "1", name, kind, *value)
    bus.call(SERVICE, PATH, MOCK, "AddObject", "ssa{sv}a(ssss)", *words[:2], *words[3:], "0")


@pytest.mark.parametrize(("reached", "booting"), [(0, True), (30, True), (10, False)])
def test_what_the_boot_starts(
    bus: PrivateBus, monkeypatch: pytest.MonkeyPatch, reached: int, booting: bool
) -> None:
    mock_systemd(bus)
    begun = "Unit InactiveExitTimestampMonotonic t 20"
    mock_unit(bus, "unit/modulus_40driver_2d1_2e0_2eservice", begun)
    mock_unit(bus, "unit/default_2etarget", f"Unit ActiveEnterTimestampMonotonic t {reached}")
    assert not resident._at_boot(Path("/"), OWN), "systemd has not started this process"
    monkeypatch.setenv("NOTIFY_SOCKET", os.devnull)
    assert resident._at_boot(Path("/"), OWN) == booting
    assert not resident._at_boot(Path("/other"), OWN), "nor another root's"
    # Nobody knows: then as little as can be is changed.
    bus.stop()
    assert resident._at_boot(Path("/"), OWN)


@pytest.mark.parametrize(("job", "stopped"), [("stop", True), ("restart", False)])
def test_a_stop_is_no_restart(
    bus: PrivateBus, monkeypatch: pytest.MonkeyPatch, job: str, stopped: bool
) -> None:
    mock_systemd(bus)
    unit = "unit/modulus_40driver_2d1_2e0_2eservice"
    mock_unit(bus, unit, f"Unit Job (uo) 7 {PATH}/job/7")
    mock_unit(bus, "job/7", f"Job JobType s {job}")
    monkeypatch.setenv("NOTIFY_SOCKET", os.devnull)
    assert resident._is_stopped(Path("/"), OWN) == stopped
    bus.stop()
    assert not resident._is_stopped(Path("/"), OWN)
