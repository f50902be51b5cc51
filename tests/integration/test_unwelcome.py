"""A user of the node who does to an agent, on the bus and elsewhere, what any user may."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.busagent import AGENT, NAME, OBJECT, Process, wait_for
from tests.support.privatebus import PrivateBus, private_bus

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user"),
]

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
GROWTH = 8 << 20  # bytes; one of the messages has half of that
BUSY = 0.5  # of a CPU
SECONDS = [5, pytest.param(150, marks=pytest.mark.full)]

# Prints how many messages there were, and how many of them were refused.
SENDER = """
import sys, time
from gi.repository import Gio, GLib
address, seconds, name, path, interface, kind = sys.argv[1:]
flags = Gio.DBusConnectionFlags
bus = Gio.DBusConnection.new_for_address_sync(
    address, flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION, None, None)
large = GLib.Variant("(s)", ("x" * (4 << 20),))
sent = refused = 0
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    sent += 1
    if kind == "signal":
        bus.emit_signal(name, path, interface, "Large", large)
        bus.flush_sync()
        continue
    arguments = large if kind == "large" else GLib.Variant("(s)", (interface,))
    try:
        bus.call_sync(name, path, "org.freedesktop.DBus.Properties", "GetAll", arguments,
                      None, Gio.DBusCallFlags.NONE, 10_000, None)
    except GLib.Error as error:
        refused += "AccessDenied" in error.message
print(sent, refused)
"""


# Prints how often it was told of something, and how many of a hundred timers a second came.
WATCHER = """
import sys
from pathlib import Path
from modulus.agent.loop import Loop
from modulus.host.watch.monitor import FolderMonitor
loop, told, timers = Loop(), [], []
monitor = FolderMonitor(Path("/dev"), told.append)
loop.every(0.01, lambda: timers.append(1))
loop.after(float(sys.argv[1]), lambda: loop.end(0))
print("watching", flush=True)
sys.stdin.readline()
loop.run()
print(len(told), len(timers), flush=True)
sys.stdin.readline()
"""

TOUCHER = """
import os
while True:
    os.utime("/dev/null")
    os.utime("/dev/zero")
"""


@dataclass(frozen=True)
class Use:
    """What a process has used: CPU seconds, and the most bytes that it had resident."""

    cpu: float
    peak: int


def use(pid: int) -> Use:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert peak
    ticks = int(words[11]) + int(words[12])
    return Use(ticks / os.sysconf("SC_CLK_TCK"), int(peak[1]) << 10)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    # Where another user may reach it.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with private_bus(Path(folder), monkeypatch, system=True) as bus:
            bus.start()
            yield bus


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd would be to the agent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.setblocking(False)
        yield channel


def told(manager: socket.socket) -> list[str]:
    found = []
    try:
        while True:
            found.append(manager.recv(4096).decode())
    except BlockingIOError:
        return found


@pytest.fixture
def agent(bus: PrivateBus, manager: socket.socket, tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "root").mkdir()
    # To it alone: busctl would wait until somebody hears it, too.
    bus.env.update(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000")
    agent = Process(tmp_path / "root", bus)
    try:
        wait_for(agent.on_bus, "the agent on the bus")
        yield agent
    finally:
        agent.kill()


def work(bus: PrivateBus, agent: Process) -> None:
    """Has the agent do something, and waits until that is done."""
    before = len(agent.works)
    bus.call(NAME, OBJECT, AGENT, "Verify")
    wait_for(lambda: len(agent.works) == before + 1, "what was asked for")


@pytest.mark.parametrize("seconds", SECONDS)
def test_another_user_reaches_no_agent(
    bus: PrivateBus, agent: Process, manager: socket.socket, seconds: float
) -> None:
    ask = bus.busctl("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus")
    owner = subprocess.check_output([*ask, "GetNameOwner", "s", NAME], text=True).split('"')[1]
    subprocess.run(bus.busctl("get-property", NAME, OBJECT, AGENT, "Phase"), check=True)
    before = use(agent.process.pid)
    sender = (*NOBODY, "/usr/bin/python3", "-W", "ignore", "-c", SENDER, bus.address)
    senders = [
        subprocess.Popen(
            [*sender, str(seconds), name, OBJECT, AGENT, kind],
            text=True,
            stdout=subprocess.PIPE,
        )
        for name, kind in (
            *((NAME, "small"), (NAME, "large"), (owner, "small"), (owner, "large")),
            *((NAME, "signal"), (owner, "signal")),
        )
    ]
    heard: list[str] = []
    while any(each.poll() is None for each in senders):
        work(bus, agent)
        heard = [*heard, *told(manager)][-100:]
        time.sleep(0.2)
    counts = [tuple(map(int, each.communicate()[0].split())) for each in senders]
    after = use(agent.process.pid)
    assert all(sent > 10 for sent, _ in counts), counts
    assert all(sent == refused for sent, refused in counts[:4]), counts
    assert after.peak < before.peak + GROWTH
    assert after.cpu - before.cpu < BUSY * seconds
    assert "WATCHDOG=1" in heard
    assert agent.stop() == 0


@pytest.mark.parametrize("seconds", SECONDS)
def test_another_user_touches_device_nodes(seconds: float) -> None:
    watch = [sys.executable, "-W", "ignore", "-c", WATCHER, str(seconds)]
    touch = [*NOBODY, "/usr/bin/python3", "-c", TOUCHER]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(watch, text=True, stdin=pipe, stdout=pipe) as watcher,
        subprocess.Popen(touch) as toucher,
    ):
        try:
            assert watcher.stdin
            assert watcher.stdout
            assert watcher.stdout.readline() == "watching\n"
            before = use(watcher.pid)
            watcher.stdin.write("go on\n")
            watcher.stdin.flush()
            assert select.select([watcher.stdout], [], [], seconds + 20)[0], "it hangs"
            told, timers = map(int, watcher.stdout.readline().split())
            after = use(watcher.pid)
        finally:
            toucher.kill()
            watcher.kill()
    assert 2 < told < 100 * seconds
    assert timers > 20 * seconds
    assert after.peak < before.peak + GROWTH
    assert after.cpu - before.cpu < BUSY * seconds
