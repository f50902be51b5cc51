"""Builds of the real driver: ours, DKMS's and plain make's, and the floor below them all."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.bench.measure import FailedError, as_child, clone, remove
from tests.bench.ratios import Cost, Result, Row, rounds
from tests.bench.site import Site, Step
from tests.bench.vendor import compilations, dkms_conf

MODULES = ("nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm", "nvidia-peermem")

FIRST = Row(
    "first", "first build, five modules, toolchain present", "`dkms build`, same kernel", 0.60
)
MAKE = Row("make", "first build, five modules, toolchain present", "`make -j -g0`", None)
NEXT = Row(
    "next",
    "next kernel, headers unchanged and provisioned now",
    "`dkms build`, same kernel",
    0.12,
)
CHANGED = Row(
    "changed",
    "next kernel, headers changed and provisioned now",
    "`dkms build`, same kernel",
    0.60,
)
GROWTH = Row(
    "growth",
    "store growth for one more kernel, five modules",
    "`dkms mktarball --binaries-only`",
    0.08,
    "size",
)
ROWS = (FIRST, MAKE, NEXT, CHANGED, GROWTH)

_NAME = "nvidia"


@dataclass(frozen=True)
class Spent:
    """What a build's seconds went to: providing headers, with the start and the search for what
    there is, and making modules, in the way that the store calls ``made``."""

    providing: float
    making: float
    made: str


def told(spent: Sequence[Spent]) -> str:
    """A line about several builds: medians, and how they were made."""
    providing = statistics.median(one.providing for one in spent)
    making = statistics.median(one.making for one in spent)
    ways = ", ".join(sorted({one.made for one in spent}))
    return (
        f"the new kernel's headers are provisioned in each run: {providing:.1f} s of it with "
        f"start and plan, {making:.1f} s are the build ({ways})"
    )


class Builds:
    """All builds for the newest kernel, in turn; a build that several rows need is made once
    a round."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._release = site.kernels[0]
        self._tree = site.headers[self._release]
        self._folder = site.work / "builds"
        self._folder.mkdir()
        self._grown: dict[str, int] = {}
        self._spent: dict[str, list[Spent]] = {}
        self._objects = 0

    def results(self, rows: Sequence[Row], pairs: int) -> list[Result]:
        """The rows in their order."""
        steps = {row.name: self._step(row) for row in rows if row in (NEXT, CHANGED, GROWTH)}
        runs = self._contenders(rows, steps)
        costs: dict[str, list[Cost]] = {name: [] for name in runs}
        for number, name in enumerate(rounds([*runs], pairs)):
            self._say(f"{name} ({number // len(runs) + 1} of {pairs})")
            costs[name].append(runs[name]())
        return [self._result(row, costs, steps.get(row.name)) for row in rows]

    def _contenders(
        self, rows: Sequence[Row], steps: dict[str, Step]
    ) -> dict[str, Callable[[], Cost]]:
        """What has to run in a round for ``rows``."""
        runs: dict[str, Callable[[], Cost]] = {}
        if FIRST in rows or MAKE in rows:
            runs["first"] = self._first
        for row in (NEXT, CHANGED):
            if row in rows:
                runs[row.name] = self._again(row.name, steps[row.name])
        if GROWTH in rows:
            # Both sides are weighed in the course of builds, which other rows may have made.
            if not (NEXT in rows and steps["next"] == steps["growth"]):
                runs["again"] = self._again("again", steps["growth"])
            else:
                runs["again"] = lambda: Cost(size=sum(self._grown.values()))
        if any(row in rows for row in (FIRST, NEXT, CHANGED, GROWTH)):
            runs["dkms"] = self._dkms
        if GROWTH in rows:
            runs["tarball"] = self._tarball
        if MAKE in rows:
            runs["make"] = self._plain_make
        if any(row in rows for row in (FIRST, MAKE, NEXT, CHANGED)):
            runs["floor"] = self._floor
        return runs

    def _result(self, row: Row, costs: dict[str, list[Cost]], step: Step | None) -> Result:
        ours = {MAKE: "first", GROWTH: "again"}.get(row, row.name)
        theirs = {MAKE: "make", GROWTH: "tarball"}.get(row, "dkms")
        notes = [f"kernel {self._release}, {self._site.jobs} jobs"]
        if step:
            notes[0] += f"; the build for {step.old} is in the store"
            notes.append(f"{step.changed} files of the common headers differ between the two")
        if row is GROWTH:
            parts = ", ".join(f"{name} {size}" for name, size in self._grown.items() if size)
            notes.append(f"bytes in the cache by folder: {parts}")
        if spent := self._spent.get(row.name):
            notes.append(told(spent))
        floor = () if row is GROWTH else tuple(costs["floor"])
        if floor:
            notes.append(f"the floor is {self._objects} objects")
        return Result(row, tuple(costs[ours]), tuple(costs[theirs]), floor, tuple(notes))

    def _step(self, row: Row) -> Step:
        """The nearest older kernel whose headers differ, or do not, as ``row`` says."""
        wanted = row is CHANGED
        return next(step for step in self._site.steps if (step.changed > 0) == wanted)

    def _first(self) -> Cost:
        root = self._site.node("first")
        try:
            return self._build(root)
        finally:
            remove(root)

    def _again(self, name: str, step: Step) -> Callable[[], Cost]:
        """What builds on a node that already has the build for the step's older kernel.

        Rows for a new kernel begin as a node does on which it was just installed: nobody has
        seen its headers.
        """
        fresh = name in (NEXT.name, CHANGED.name)
        made = self._site.node(f"{name}-before")
        self._say(f"preparing {name}: the build for {step.old}")
        self._site.meter.run(*as_child(self._site.build(made, step.old)))

        def run() -> Cost:
            root = self._site.node(name, made)
            if fresh:
                self._site.forget_headers(root, self._release)
            try:
                before = self._site.stored(root)
                cost = self._build(root, name if fresh else "")
                after = self._site.stored(root)
            finally:
                remove(root)
            grown = {key: after[key] - before.get(key, 0) for key in after}
            if name != "changed":
                self._grown = grown
            return Cost(cost.wall, cost.cpu, sum(grown.values()))

        return run

    def _build(self, root: Path, row: str = "") -> Cost:
        """A build of ours, which has to be one. What it spent is kept for ``row``, whose builds
        provide the headers, too."""
        said = self._folder / "said"
        command = as_child(self._site.build(root, self._release, provides=bool(row)))
        cost = self._site.meter.run(*command, output=said)
        (result,) = json.loads(said.read_text())["results"]
        if result["hit"]:
            raise FailedError(f"{shlex.join(command)} built nothing: it was in the store")
        if row:
            made = json.loads((Path(result["path"]) / "manifest.json").read_text())["made"]
            spent = Spent(cost.wall - result["seconds"], result["seconds"], made)
            self._spent.setdefault(row, []).append(spent)
        return cost

    @cached_property
    def _dkms_options(self) -> list[str | Path]:
        """DKMS with trees of its own, in which the driver is added."""
        version = self._site.run[1]
        source = self._folder / "src" / f"{_NAME}-{version}"
        clone(self._site.sources, source)
        template = (source / "dkms.conf").read_text()
        (source / "dkms.conf").write_text(
            dkms_conf(template, version, self._site.jobs, self._tree, MODULES)
        )
        (self._folder / "dkms").mkdir()
        (self._folder / "install").mkdir()
        options: list[str | Path] = [
            *("-m", _NAME, "-v", version),
            *("--dkmstree", self._folder / "dkms"),
            *("--sourcetree", self._folder / "src"),
            *("--installtree", self._folder / "install"),
        ]
        self._site.meter.run("dkms", "add", *options, env=self._dkms_keys)
        return [
            *options,
            *("-k", self._release, "--kernelsourcedir", self._tree / "build"),
        ]

    @property
    def _dkms_keys(self) -> dict[str, str]:
        """Where DKMS has the keys it may sign with: not among the machine's own."""
        key = self._folder / "mok"
        return {"mok_signing_key": f"{key}.key", "mok_certificate": f"{key}.pub"}

    def _dkms(self) -> Cost:
        options = self._dkms_options
        made = self._folder / "dkms" / _NAME / self._site.run[1]
        remove(made / self._release)
        cost = self._site.meter.run("dkms", "build", *options, env=self._dkms_keys)
        modules = {path.stem for path in (made / self._release).rglob("*.ko")}
        if modules != set(MODULES):
            raise FailedError(f"DKMS built {sorted(modules)}, not {sorted(MODULES)}")
        return cost

    def _tarball(self) -> Cost:
        """What DKMS packs of the build it has just made."""
        target = self._folder / "tarball.tar.gz"
        target.unlink(missing_ok=True)
        options = [*self._dkms_options, "--binaries-only", "--archive", target]
        cost = self._site.meter.run("dkms", "mktarball", *options)
        return Cost(cost.wall, cost.cpu, target.stat().st_size)

    @cached_property
    def _make(self) -> list[str | Path]:
        """Plain make, as one would call it by hand; its output is kept for the floor."""
        return [
            "make",
            f"-j{self._site.jobs}",
            *("-C", self._folder / "make"),
            f"SYSSRC={self._tree}/source",
            f"SYSOUT={self._tree}/build",
            f"CC={self._site.compiler}",
            "KCFLAGS=-g0",
            "modules",
        ]

    def _plain_make(self) -> Cost:
        remove(self._folder / "make")
        clone(self._site.sources, self._folder / "make")
        return self._site.meter.run(*self._make)

    def _floor(self) -> Cost:
        """The vendor's objects alone, compiled as make did, without all that stands around."""
        if not (self._folder / "make").exists():
            self._say("preparing the floor: plain make")
            self._plain_make()
        records = (self._folder / "make").rglob(".*.o.cmd")
        commands = compilations(path.read_text() for path in sorted(records))
        if not commands:
            raise FailedError("make left no record of any object it compiled")

        self._objects = len(commands)

        def work() -> None:
            with ThreadPoolExecutor(self._site.jobs) as pool:
                for done in [pool.submit(self._compile, words) for words in commands]:
                    done.result()

        return self._site.meter.call(work)

    def _compile(self, words: Sequence[str]) -> None:
        self._site.meter.work(*words, cwd=self._tree / "build")

    def _say(self, text: str) -> None:
        print(f"bench: {text}", flush=True)
