"""A line to the bus with a loop of its own, an agent on it, and programs that ask."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from modulus.agent.loop import Loop
from modulus.agent.show.bus_link import BusLink
from modulus.agent.show.publisher import Publisher
from modulus.core.instance import Instance
from modulus.host.bus.connection import SystemBus
from modulus.host.report.reporter import PlainReporter
from tests.support.privatebus import Steps, drive

OWN = Instance("driver", "1.0")
NAME = "org.modulus1.driver_2d1_2e0"
OBJECT = "/org/modulus1/driver_2d1_2e0"
AGENT = "org.modulus1.Agent"


class Line:
    """A loop with a line in it, and what came over it."""

    def __init__(self, attach: Callable[[SystemBus], object] = lambda _: None) -> None:
        self.loop = Loop()
        self.attached: list[SystemBus] = []
        self.lost = 0
        self._attach = attach
        self.line = BusLink(self.loop, Path("/"), self._on, self._off)

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
