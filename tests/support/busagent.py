"""The whole resident process on a private bus; its children only say what they were to do."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.privatebus import PrivateBus

NAME = "org.modulus1.driver_2d1_2e0"
OBJECT = "/org/modulus1/driver_2d1_2e0"
AGENT = "org.modulus1.Agent"

# The bus is the private one, for this root too.
_PROCESS = """
import os, sys
from pathlib import Path
from modulus.agent import resident
from modulus.agent.prebuild import setup
from modulus.core.instance import Instance
from modulus.host.bus import endpoint
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.site import Site
root = Path(sys.argv[1])
endpoint.address = lambda _: os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
def say(what):
    return ("/bin/sh", "-c", f"echo {what} >>{root}/works")
resident.command = lambda site, instance, work, verbose: say(f"{work} {instance}")
setup.ahead_command = lambda *_, **__: say("ahead")
site = Site(root, None, (), None)
sys.exit(resident.watch(site, Instance("driver", "1.0"), PlainReporter()))
"""


def wait_for(found: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not found():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)


class Process:
    """An agent in a process of its own."""

    def __init__(self, root: Path, bus: PrivateBus) -> None:
        self.root = root
        self.bus = bus
        words = [sys.executable, "-W", "ignore", "-c", _PROCESS, str(root)]
        with (root.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                words, env=bus.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def works(self) -> list[str]:
        path = self.root / "works"
        return path.read_text().splitlines() if path.exists() else []

    def on_bus(self) -> bool:
        status = self.bus.busctl("status", NAME)
        return subprocess.run(status, capture_output=True).returncode == 0

    def log(self) -> str:
        return (self.root.parent / "log").read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """Ends it, if it has not ended."""
        self.process.kill()
        self.process.wait()
