"""Builds of the real driver: ours, DKMS's and plain make's, and the floor below them all."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from tests.bench.measure import FailedError, as_child, clone, remove
from tests.bench.ratios import Cost, Result, Row, rounds
from tests.bench.site import Site, Step

MODULES = ("nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm", "nvidia-peermem")

FIRST = Row(
    "first", "first build, five modules, toolchain present", "`dkms build`, same kernel", 0.60
)
MAKE = Row("make", "first build, five modules, toolchain present", "`make -j -g0`", None)
NEXT = Row("next", "next kernel, headers unchanged", "`dkms build`, same kernel", 0.10)
CHANGED = Row("changed", "next kernel, headers changed", "`dkms build`, same kernel", 0.60)
GROWTH = Row(
    "growth",
    "store growth for one more kernel, five modules",
    "`dkms mktarball --binaries-only`",
    0.08,
    "size",
)
ROWS = (FIRST, MAKE, NEXT, CHANGED, GROWTH)

_NAME = "nvidia"


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
        """What builds on a node that already has the build for the step's older kernel."""
        made = self._site.node(f"{name}-before")
        self._say(f"preparing {name}: the build for {step.old}")
        self._site.meter.run(*as_child(self._site.build(made, step.old)))

        def run() -> Cost:
            root = self._site.node(name, made)
            try:
                before = self._site.stored(root)
                cost = self._build(root)
                after = self._site.stored(root)
            finally:
                remove(root)
            grown = {key: after[key] - before.get(key, 0) for key in after}
            if name != "changed":
                self._grown = grown
            return Cost(cost.wall, cost.cpu, sum(grown.values()))

        return run

    def _build(self, root: Path) -> Cost:
        """A build of ours, which has to be one."""
        said = self._folder / "said"
        command = as_child(self._site.build(root, self._release))
        cost = self._site.meter.run(*command, output=said)
        (result,) = json.loads(said.read_text())["results"]
        if result["hit"]:
            raise FailedError(f"{shlex.join(command)} built nothing: it was in the store")
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


def dkms_conf(
    template: str, version: str, jobs: int, tree: Path, modules: Sequence[str]
) -> str:
    """The driver's own dkms.conf filled in as its installer does, for headers at ``tree``.

    The installer has make find them by the kernel's name below /lib/modules.
    """
    headers = f"SYSSRC={tree}/source SYSOUT={tree}/build"
    listed = "\n".join(
        f'BUILT_MODULE_NAME[{number}]="{name}"\n'
        f'BUILT_MODULE_LOCATION[{number}]=""\n'
        f'DEST_MODULE_LOCATION[{number}]="/kernel/drivers/video"'
        for number, name in enumerate(modules)
    )
    filled = {
        "__VERSION_STRING": version,
        "__JOBS": str(jobs),
        "__EXCLUDE_MODULES": "",
        "__DKMS_MODULES": listed,
        "KERNEL_UNAME=${kernelver}": headers,
    }
    for mark, value in filled.items():
        if mark not in template:
            raise FailedError(f"the driver's dkms.conf has no {mark}")
        template = template.replace(mark, value)
    return f"{template}\nCLEAN=\"'make' {headers} clean\"\n"


def compilations(records: Iterable[str]) -> list[list[str]]:
    """The compiler's command lines for real objects, of what kbuild records beside each.

    What is compiled of modpost's own making is no object of the vendor's.
    """
    found = []
    for record in records:
        first = record.partition("\n")[0]
        name, _, command = first.partition(" := ")
        if not command or ".mod.o" in name:
            continue
        words = shlex.split(command.partition(" ; ")[0].replace("$$", "$"))
        if words[-1].endswith(".c"):
            found.append(words)
    return found
