"""Modulus is killed at points of its work on a fake node: nothing is half made or lost then,
and the next run ends right."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import active_generation
from tests.support.fakedriver import NODES, RELEASE, FakeNode
from tests.support.killnode import KillNode, Seen, provide_sources
from tests.support.killpoints import Killer, Point, spread, strace
from tests.support.packages import UnavailableError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes"),
]

SAMPLE, MANY, TIMES = 4, 30, 10
"""How many points of each work are tried in CI, in --full, and moments there besides."""
TRIES = 4


@dataclass(frozen=True)
class Work:
    """A command, what the node is before it, and the exit code it comes to undisturbed."""

    words: tuple[str, ...]
    prepare: Callable[[FakeNode], None]
    code: int = 0

    @property
    def activates(self) -> bool:
        """Whether a driver is at work after it."""
        return self.words[0] in ("up", "rollback")


def run(node: FakeNode, *words: str) -> None:
    assert node.run(*words) == 0, words


def boot(node: FakeNode) -> None:
    run(node, "up", "gpu-1.0")
    node.reboot()


def another_kernel(node: FakeNode) -> None:
    run(node, "up", "gpu-1.0")
    node.reboot("#1 SMP Debian 6.1.68-1", b"another kernel")


def two_versions(node: FakeNode) -> None:
    run(node, "up", "gpu-1.0")
    node.stock("2.0")


def refused(node: FakeNode) -> None:
    two_versions(node)
    node.refuses("gpu-uvm", "2.0")


def switched(node: FakeNode) -> None:
    two_versions(node)
    run(node, "up", "gpu-2.0")


def refused_at_boot(node: FakeNode) -> None:
    switched(node)
    node.reboot()
    node.refuses("gpu-uvm", "2.0")


def waste(node: FakeNode) -> None:
    """What nobody needs: generations, and builds that were set aside."""
    switched(node)
    for number in range(3):
        old = node.home / f"0.{number}-{RELEASE}-0123456789ab-01234567"
        shutil.copytree(node.link.resolve(), old, symlinks=True)
        shutil.copytree(node.link.resolve(), node.cache / f"bad/{number}.1", symlinks=True)


WORKS = {
    "first": Work(("up", "gpu-1.0"), lambda _: None),
    "boot": Work(("up", "gpu-1.0"), boot),
    "another kernel": Work(("up", "gpu-1.0"), another_kernel),
    "build": Work(("build", "gpu-1.0"), provide_sources),
    "build and start": Work(("up", "gpu-1.0"), provide_sources),
    "switch": Work(("up", "gpu-2.0"), two_versions),
    "switch refused": Work(("up", "gpu-2.0"), refused, 21),
    "fallback at boot": Work(("up", "gpu-2.0"), refused_at_boot, 21),
    "rollback": Work(("rollback",), switched),
    "gc": Work(("cache", "gc", "--all"), waste),
    "collection": Work(("up", "gpu-2.0"), waste),
}


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def node(patch: pytest.MonkeyPatch) -> Iterator[KillNode]:
    try:
        strace()
    except UnavailableError as error:
        pytest.skip(str(error))
    # Where a build that runs as nobody gets through to.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        before = os.umask(0o022)
        made = KillNode(Path(folder))
        made.node.stock()
        patch.setenv("PATH", made.node.path)
        yield made
        os.umask(before)


class Trial:
    """One work on a node that is killed again and again."""

    def __init__(self, node: KillNode, work: Work) -> None:
        self.node, self.work = node, work
        work.prepare(node.node)
        node.keep()
        self.killer: Killer = node.killer(work.words)
        self.took = -time.monotonic()
        assert self.killer.run() == work.code, self.killer.log.read_text()
        self.took += time.monotonic()
        self.settle()
        self.clean = node.seen()
        assert node.half_made() == []
        assert node.hidden() == []

    def points(self) -> list[Point]:
        self.node.restore()
        return self.killer.points(self.node.node.root, self.work.code)

    def at(self, point: Point, *, reboot: bool) -> None:
        # How often the state is written depends on the time: the last ones may not come.
        for _ in range(TRIES):
            self.node.restore()
            if self.killer.kill(point):
                break
        else:
            raise AssertionError(f"{point} never came")
        self.look(str(point), reboot=reboot)

    def after(self, seconds: float) -> None:
        self.node.restore()
        self.killer.kill_after(seconds)
        self.look(f"killed after {seconds:.3f} s", reboot=False)

    def look(self, when: str, *, reboot: bool) -> None:
        """What a kill has left, and what the next runs make of it."""
        assert self.node.half_made() == [], when
        if reboot:
            self.node.node.reboot()
        if self.work.activates and self.node.seen().selected:
            self.start_selected(when)
        if self.work.words[0] == "rollback":
            # Once more would be forth again.
            return
        assert self.node.node.run(*self.work.words) == self.work.code, when
        self.settle()
        assert self.node.half_made() == [], when
        assert self.node.hidden() == [], when
        if not reboot:
            assert differences(self.node.seen(), self.clean) == [], when

    def settle(self) -> None:
        """What the unit of the instance that is selected again does after a fallback."""
        if self.work.code:
            run(self.node.node, "up", "gpu-1.0")

    def start_selected(self, when: str) -> None:
        """What the next boot, or the unit that is started anew, does."""
        seen = self.node.seen()
        assert seen.selected
        instance = seen.selected.strip()
        code = self.node.node.run("up", instance)
        assert code == (self.work.code if instance == self.work.words[-1] else 0), when
        self.at_work(when)

    def at_work(self, when: str) -> None:
        """One instance is selected, active, loaded and complete."""
        node, seen = self.node.node, self.node.seen()
        active = active_generation(DriverPaths(node.root, "gpu"))
        assert active, when
        instance = active.contents.identity.instance
        assert seen.selected == f"{instance}\n", when
        assert seen.loaded == (("gpu", instance.version), ("gpu_uvm", instance.version)), when
        assert tuple(name for name, _ in seen.nodes) == NODES, when
        assert seen.firmware == f"/opt/drivers/.gpu/{active.name}/firmware", when
        assert self.node.half_made() == [], when


def differences(seen: Seen, clean: Seen) -> list[str]:
    """In what ``seen`` is not what an undisturbed run leaves."""
    paths = [f"left: {path}" for path in sorted(seen.paths - clean.paths)]
    paths += [f"lost: {path}" for path in sorted(clean.paths - seen.paths)]
    rest = [
        f"{name}: {getattr(seen, name)}, not {getattr(clean, name)}"
        for name in ("active", "selected", "loaded", "nodes", "firmware", "linker")
        if getattr(seen, name) != getattr(clean, name)
    ]
    return paths + rest


@pytest.mark.parametrize(
    "count", [SAMPLE, pytest.param(MANY, marks=pytest.mark.full)], ids=["sample", "many"]
)
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS.keys())
def test_killed_anywhere_it_ends_right_the_next_time(
    node: KillNode, work: Work, count: int
) -> None:
    trial = Trial(node, work)
    points = trial.points()
    assert len(points) > count
    for number, point in enumerate(spread(points, count)):
        trial.at(point, reboot=number % 3 == 2)
    # The same each time.
    chance = random.Random(count)
    for _ in range(TIMES if count == MANY else 0):
        trial.after(chance.uniform(0, trial.took))
