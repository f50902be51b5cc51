"""Two agents of one driver in a storm of events: they stay small, and the node ends right."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import active_generation
from modulus.host.status.files import read_state
from tests.support.fakedriver import NODES, FakeNode, fake_node
from tests.support.headertrees import write

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes"),
]

INSTANCES = ("gpu-1.0", "gpu-2.0")
MOST = 45 << 20  # bytes that an agent may have resident
# Bytes that it may grow by once each kind of event has come some times, and with each event:
# tables of libraries double now and then, and PyGObject 3.42 loses 112 bytes with each timer
# and watch (measured: 40,000 of them, also with GLib alone), of which an event has some.
GROWTH = 1 << 20
GROWTH_EACH = 1 << 10
REST = 120  # seconds in which it gets over a storm


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


@dataclass(frozen=True)
class Size:
    """What a process has: bytes resident, open files, threads."""

    resident: int
    files: int
    threads: int


class Agent:
    """``up --watch`` of one instance."""

    def __init__(self, node: FakeNode, instance: str) -> None:
        self.instance = instance
        self._root = node.root
        self._log = open(node.root.with_name(f"{instance}.log"), "a")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modulus", "up", instance, "--watch", f"--root={node.root}"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    @property
    def said(self) -> str:
        return Path(self._log.name).read_text()

    @property
    def children(self) -> list[int]:
        folder = Path(f"/proc/{self.process.pid}/task")
        text = " ".join((task / "children").read_text() for task in folder.iterdir())
        return [int(word) for word in text.split()]

    @property
    def size(self) -> Size:
        folder = Path(f"/proc/{self.process.pid}")
        status = folder.joinpath("status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$.*^Threads:\s+(\d+)$", status, re.M | re.S)
        assert found
        return Size(int(found[1]) << 10, len(list((folder / "fd").iterdir())), int(found[2]))

    @property
    def rests(self) -> bool:
        assert self.process.poll() is None, self.said
        state = read_state(self._root, self.instance)
        # "ready" is what somebody's own ``up`` says.
        settled = state is not None and state.phase in ("watch", "ready")
        return settled and not self.children

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(REST)
        self._log.close()
        return code


@dataclass
class Storm:
    """Random events on a node with agents."""

    node: FakeNode
    agents: list[Agent]
    chance: random.Random = field(default_factory=lambda: random.Random(4))
    count: int = 0

    def blow(self, seconds: float, calm: float = 0.15) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.event(self.chance.choice(EVENTS))
            time.sleep(self.chance.uniform(0, calm))

    def event(self, happen: Callable[[Storm], object]) -> None:
        # What it is about may be gone already, by another event or by a switch.
        with contextlib.suppress(FileNotFoundError, FileExistsError, ProcessLookupError):
            happen(self)
        self.count += 1

    def rest(self) -> None:
        """Waits until all agents have nothing to do for a while, and all is right.

        What is wrong again and again is repaired only so often.
        """
        calm, deadline = 0, time.monotonic() + REST
        while calm < 15:
            time.sleep(0.2)
            still = all(agent.rests for agent in self.agents) and not wrong(self.node)
            calm = calm + 1 if still else 0
            assert time.monotonic() < deadline, (
                wrong(self.node),
                [read_state(self.node.root, name) for name in INSTANCES],
                [(agent.children, agent.said[-2000:]) for agent in self.agents],
            )

    def look_at_all(self) -> None:
        for agent in self.agents:
            os.kill(agent.process.pid, signal.SIGHUP)

    # --- what happens ---

    def remove_node(self) -> None:
        (self.node.root / "dev" / self.chance.choice(NODES)).unlink()

    def replace_node(self) -> None:
        path = self.node.root / "dev" / self.chance.choice(NODES)
        path.unlink()
        os.mknod(path, 0o600 | 0o020000, os.makedev(99, 9))

    def remove_links(self) -> None:
        shutil.rmtree(self.node.root / "dev/char")

    def chmod_node(self) -> None:
        (self.node.root / "dev" / self.chance.choice(NODES)).chmod(0o600)

    def other_node(self) -> None:
        write(self.node.root / f"dev/other{self.chance.randrange(9)}").unlink()

    def install_kernel(self) -> None:
        kernel = self.node.root / f"lib/modules/6.1.0-{self.chance.randrange(20, 23)}-amd64"
        if kernel.exists():
            shutil.rmtree(kernel)
        else:
            write(kernel / "modules.builtin", "")
        self.ring()

    def ring(self) -> None:
        write(self.node.root / "run/modulus/kernels/bell", "")

    def look_again(self) -> None:
        os.kill(self.chance.choice(self.agents).process.pid, signal.SIGHUP)

    def kill_child(self) -> None:
        children = self.chance.choice(self.agents).children
        if children:
            os.kill(self.chance.choice(children), signal.SIGKILL)

    def change_settings(self) -> None:
        self.node.configure(boot_hold=self.chance.randrange(60, 900))

    def select(self) -> None:
        """Somebody makes the other version the driver, or the same once more."""
        instance = self.chance.choice(INSTANCES)
        subprocess.run(
            [sys.executable, "-m", "modulus", "up", instance, f"--root={self.node.root}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )


EVENTS: tuple[Callable[[Storm], object], ...] = (
    Storm.remove_node,
    Storm.replace_node,
    Storm.remove_links,
    Storm.chmod_node,
    Storm.other_node,
    Storm.install_kernel,
    Storm.ring,
    Storm.look_again,
    Storm.kill_child,
    Storm.change_settings,
    Storm.select,
)


@pytest.mark.parametrize(
    "seconds", [15, pytest.param(240, marks=pytest.mark.full)], ids=["short", "long"]
)
def test_a_storm_of_events_leaves_it_small_and_right(node: FakeNode, seconds: float) -> None:
    node.stock("2.0")
    storm = Storm(node, [Agent(node, instance) for instance in INSTANCES])
    try:
        storm.rest()
        # Whatever is loaded or made once has been then.
        for event in (*EVENTS, *EVENTS):
            storm.event(event)
        storm.blow(seconds / 3)
        storm.look_at_all()
        storm.rest()
        before, count = [agent.size for agent in storm.agents], storm.count
        storm.blow(seconds)
        storm.rest()
        after = [agent.size for agent in storm.agents]
        for old, new in zip(before, after, strict=True):
            assert (new.files, new.threads) == (old.files, old.threads)
            grown = GROWTH + GROWTH_EACH * (storm.count - count)
            assert new.resident < min(MOST, old.resident + grown), (storm.count, before, after)
        assert [agent.stop() for agent in storm.agents] == [0, 0]
    finally:
        for agent in storm.agents:
            agent.process.kill()
            agent.process.wait()


def wrong(node: FakeNode) -> str | None:
    """In what not one instance is selected, active, loaded and complete."""
    active = active_generation(DriverPaths(node.root, "gpu"))
    if active is None:
        return "no generation is active"
    instance = active.contents.identity.instance
    states = {name: read_state(node.root, name) for name in INSTANCES}
    char = node.root / "dev/char"
    links = [os.readlink(path) for path in char.iterdir()] if char.is_dir() else []
    selected = node.root / "var/lib/modulus/gpu/selected"
    facts: tuple[tuple[object, object], ...] = (
        (selected.read_text(), f"{instance}\n"),
        (node.loaded(), {"gpu": instance.version, "gpu_uvm": instance.version}),
        (node.nodes(), {"gpu-uvm": (243, 0), "gpu0": (195, 0), "gpuctl": (195, 255)}),
        (set(NODES) - {Path(link).name for link in links}, set()),
        (node.firmware_path(), f"/opt/drivers/.gpu/{active.name}/firmware"),
        ([name for name, one in states.items() if one and one.active], [str(instance)]),
    )
    return "; ".join(f"{is_} is not {wanted}" for is_, wanted in facts if is_ != wanted) or None
