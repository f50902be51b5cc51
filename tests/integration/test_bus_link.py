"""The agent's line to the bus: a private dbus-daemon, with mocks of the system's services."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from modulus.agent.loop import Loop
from modulus.agent.show.bus_link import BusLink
from modulus.errors import ModulusError
from modulus.host.bus.connection import SystemBus
from modulus.host.bus.updates import NEED_REBOOT
from tests.support.busline import Line
from tests.support.mainloop import HandLoop
from tests.support.privatebus import PrivateBus, Steps

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning"),
]
LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
UPDATES = ("com.coreos.update1", "/com/coreos/update1", "com.coreos.update1.Manager")
SYSTEMD = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
MOCK = "org.freedesktop.DBus.Mock"


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
    line = BusLink(loop, Path("/"), attached.append, lambda: None)
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
    line = BusLink(loop, tmp_path, attached.append, lambda: None)
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
