"""A system bus of the tests' own, services that stand in for the system's, and a loop."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modulus.agent.loop import Loop

CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>{address}</listen>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""

SYSTEM_CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <include>/usr/share/dbus-1/system.conf</include>
  <includedir>{units}</includedir>
</busconfig>
"""
"""The distribution's own, with our policy."""

_UNITS = Path(__file__).parents[2] / "units"

Steps = Iterator[Callable[[], object]]
"""Yields what is waited for before the next step."""


class PrivateBus:
    """A dbus-daemon at a socket in ``folder`` that can be ended and begun again.

    All is allowed on it, unless ``system``: then what the distribution and our policy allow.
    """

    def __init__(self, folder: Path, *, system: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "system_bus_socket"
        self.address = f"unix:path={self.socket}"
        self.env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.address}
        self._config = folder / "bus.conf"
        config = SYSTEM_CONFIG if system else CONFIG
        self._config.write_text(config.format(address=self.address, units=_UNITS))
        self._log = folder / "log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Begins the bus, if not waiting for it."""
        command = ["dbus-daemon", f"--config-file={self._config}", "--nofork", "--nopidfile"]
        command.append(f"--address={self.address}")
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """Ends the bus at once, and who cannot live without one."""
        if self._daemon:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None
            self.socket.unlink(missing_ok=True)
        self.end_mocks()

    def end_mocks(self) -> None:
        """Ends the services that were begun."""
        for other in self._others:
            other.kill()
            other.wait()
        self._others.clear()

    def mock(self, *words: str) -> None:
        """Begins a service of python-dbusmock, and waits until it has its name."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-W", "ignore", "-m", "dbusmock", "--system", *words]
            self._others.append(
                subprocess.Popen(
                    command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )
        name = {"logind": "org.freedesktop.login1"}.get(words[-1], words[0])
        deadline = time.monotonic() + 20
        while subprocess.run(self.busctl("status", name), capture_output=True).returncode:
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def called(self, text: str, count: int = 1) -> bool:
        """Whether mocks were called so, as they log it: a method and its arguments."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return sum(line.endswith(f" {text}") for line in lines) >= count

    def busctl(self, *words: str) -> list[str]:
        """The command line of busctl(1) on this bus."""
        return ["busctl", f"--address={self.address}", "--auto-start=no", *words]

    def call(self, *words: str) -> None:
        """A call by busctl(1), waited for."""
        subprocess.run(self.busctl("call", *words), check=True, capture_output=True)

    def emit(self, name: str, path: str, interface: str, member: str, *values: str) -> None:
        """Has a mock emit a signal; ``values``: its signature, then type and value of each."""
        signature, *rest = values
        self.call(
            *(name, path, "org.freedesktop.DBus.Mock", "EmitSignal", "sssav"),
            *(interface, member, signature, str(len(rest) // 2), *rest),
        )


@contextlib.contextmanager
def private_bus(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, system: bool = False
) -> Iterator[PrivateBus]:
    """A bus that Modulus takes for the system's; not begun yet."""
    if not shutil.which("dbus-daemon") or not shutil.which("busctl"):
        # A machine on which only a part of scripts/setup's packages is; CI has them.
        pytest.skip("needs dbus-daemon and busctl")
    bus = PrivateBus(folder, system=system)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    try:
        yield bus
    finally:
        bus.stop()


def drive(loop: Loop, steps: Steps) -> None:
    """Runs ``loop`` while ``steps`` go on."""
    deadline = time.monotonic() + 30
    waiting = [next(steps)]

    def look() -> None:
        assert time.monotonic() < deadline, "it never came"
        if waiting[0]():
            try:
                waiting[0] = next(steps)
            except StopIteration:
                loop.end(0)

    loop.every(0.02, look)
    loop.run()
