"""A shutdown held by the real systemd-inhibit, without a terminal; logind is a mock."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.agent.loop import Loop
from modulus.agent.prebuild.reboot_hold import RebootHold
from modulus.agent.show.bus_link import BusLink
from modulus.host.bus.connection import SystemBus
from modulus.host.report.reporter import PlainReporter
from modulus.host.status.shutdown_delay import DROP_IN
from tests.support.privatebus import PrivateBus, Steps, drive, private_bus

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning"),
    pytest.mark.skipif(not shutil.which("systemd-inhibit"), reason="no systemd-inhibit"),
]

LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
SYSTEMD = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
MOCK = "org.freedesktop.DBus.Mock"
LOCK = '"shutdown" "Modulus" "the build" "delay"'


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    with private_bus(tmp_path / "bus", monkeypatch) as bus:
        bus.start()
        bus.mock("--template", "logind")
        limit = ("AddProperty", "ssv", LOGIND[2], "InhibitDelayMaxUSec", "t", "5000000")
        bus.call(*LOGIND[:2], MOCK, *limit)
        bus.mock(*SYSTEMD)
        for method, types in (("KillUnit", "ssi"), ("Subscribe", "")):
            words = (SYSTEMD[2], method, types, "", "")
            bus.call(*SYSTEMD[:2], MOCK, "AddMethod", "sssss", *words)
        yield bus


def locks(bus: PrivateBus) -> str:
    """What logind says of those who delay."""
    command = bus.busctl("call", *LOGIND, "ListInhibitors")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_shutdown_is_held_and_let_go(bus: PrivateBus, tmp_path: Path) -> None:
    loop, log = Loop(), io.StringIO()
    root = tmp_path / "root"
    root.mkdir()
    hold = RebootHold(root, "driver-1.0", 900, loop, PlainReporter(log))

    def attach(connected: SystemBus) -> None:
        connected.on_shutdown(hold.shutdown)
        hold.attach(connected)

    line = BusLink(loop, Path("/"), attach, hold.detach)

    def steps() -> Steps:
        hold.take("the build")
        yield lambda: bus.called('KillUnit "systemd-logind.service" "main" 1')
        drop_in = root / DROP_IN.lstrip("/")
        assert "InhibitDelayMaxSec=900" in drop_in.read_text()
        assert LOCK not in locks(bus)
        limit = (LOGIND[2], "InhibitDelayMaxUSec", "t", "900000000")
        # As logind does, once it has read that.
        subprocess.run(bus.busctl("set-property", *LOGIND[:2], *limit), check=True)
        yield lambda: LOCK in locks(bus)
        assert hold.really == 900
        bus.emit(*LOGIND, "PrepareForShutdown", "b", "b", "true")
        yield lambda: "a shutdown waits for the build" in log.getvalue()
        hold.release()
        yield lambda: LOCK not in locks(bus)

    line.start()
    try:
        drive(loop, steps())
    finally:
        hold.stop()
        line.stop()
    assert "warning" not in log.getvalue()
