"""Proofs in the background: a real child, which gives way to anything else."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modulus.agent.commands import prove_command
from modulus.agent.loop import Loop
from modulus.agent.prebuild.prover import Prover
from modulus.cli.parser import make_parser
from modulus.host.kernel.facts import all_builds
from modulus.pipeline.site import Site
from tests.support.mainloop import run_until, turn

CHILD = """
cd "$1"
echo run >>runs
while [ -e hold ]; do sleep 0.01; done
exit "$(cat code)"
"""


@dataclass
class Bench:
    folder: Path
    builds: frozenset[str] | None = frozenset({"6.1/a"})
    disproved: int = 0
    loop: Loop = field(default_factory=Loop)

    def prover(self) -> Prover:
        (self.folder / "child").write_text(CHILD)
        self.ends(0)

        def disproved() -> None:
            self.disproved += 1

        command = ("/bin/sh", str(self.folder / "child"), str(self.folder))
        return Prover(command, {}, lambda: self.builds, self.loop, disproved, 0.01, 0.01)

    def ends(self, code: int) -> None:
        (self.folder / "code").write_text(str(code))

    @property
    def runs(self) -> int:
        file = self.folder / "runs"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def ended(prover: Prover) -> bool:
    return prover._pid is None and prover._timer is None


def test_each_build_is_looked_at_once(bench: Bench) -> None:
    prover = bench.prover()
    prover.rest()
    run_until(lambda: bench.runs == 1 and ended(prover))
    prover.rest()
    assert ended(prover)
    bench.builds = frozenset({"6.1/a", "6.2/b"})
    prover.rest()
    run_until(lambda: bench.runs == 2 and ended(prover))
    assert bench.disproved == 0


def test_it_gives_way_and_comes_back(bench: Bench) -> None:
    prover = bench.prover()
    (bench.folder / "hold").touch()
    prover.rest()
    run_until(lambda: bench.runs == 1)
    prover.give_way()
    run_until(lambda: ended(prover))
    (bench.folder / "hold").unlink()
    prover.rest()
    run_until(lambda: bench.runs == 2 and ended(prover))


def test_it_gives_way_before_it_has_begun(bench: Bench) -> None:
    prover = bench.prover()
    prover.rest()
    prover.give_way()
    turn()
    assert ended(prover) and bench.runs == 0


@pytest.mark.parametrize("builds", [None, frozenset()])
def test_there_may_be_nothing_to_prove(bench: Bench, builds: frozenset[str] | None) -> None:
    bench.builds = builds
    prover = bench.prover()
    prover.rest()
    assert ended(prover)


@pytest.mark.parametrize(("code", "told"), [(0, 0), (12, 1)])
def test_only_what_was_built_wrong_is_told(bench: Bench, code: int, told: int) -> None:
    prover = bench.prover()
    bench.ends(code)
    prover.rest()
    run_until(lambda: bench.runs == 1 and ended(prover))
    assert bench.disproved == told
    prover.rest()
    assert ended(prover)


@pytest.mark.parametrize("code", [13, 20, 1])
def test_what_could_not_be_told_is_tried_again(bench: Bench, code: int) -> None:
    prover = bench.prover()
    bench.ends(code)
    prover.rest()
    run_until(lambda: bench.runs == 2)
    bench.ends(0)
    run_until(lambda: ended(prover))
    assert bench.disproved == 0


def test_its_command_is_one_that_modulus_has(tmp_path: Path) -> None:
    site = Site(tmp_path, tmp_path / "c", ("build.jobs=2",), None)
    words = prove_command(site, True)
    found = make_parser("cache").parse_args(words[words.index("cache") :])
    assert (found.action, found.unproved, found.idle, found.key) == (
        "reproduce",
        True,
        True,
        None,
    )
    assert (found.root, found.config, found.settings) == (
        str(tmp_path),
        str(tmp_path / "c"),
        ["build.jobs=2"],
    )


def test_builds_are_named_by_release_and_key(tmp_path: Path) -> None:
    for name in ("6.1/a", "6.1/.build.abcdefgh", "6.1/a.failed.log", "6.2/b"):
        os.makedirs(tmp_path / "builds" / name)
    assert all_builds(tmp_path) == {"6.1/a", "6.2/b"}
    assert all_builds(tmp_path / "none") == frozenset()
