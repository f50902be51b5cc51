"""A build that the compiler has refused is told at once the next time."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from modulus.errors import BuildError, LastingBuildError
from modulus.pipeline.build.build import build
from modulus.pipeline.cleaning import Bounds, collect
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode
from tests.support.proving import INSTANCE, SOUND, Compiles
from tests.support.quiet import QUIET

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

REFUSED = LastingBuildError("the sources do not fit: a.c:1:2: error: x", "choose a version")
PASSING = BuildError("the compiler ran out of memory", "raise build.memory_max")


@pytest.fixture
def fresh(node: FakeNode) -> FakeNode:
    """Its store has no build."""
    shutil.rmtree(node.cache / "builds")
    return node


def driver(node: FakeNode, *settings: str) -> Node:
    return Node(Site(node.root, None, settings, 0), INSTANCE)


def refuse(node: FakeNode, compiles: Compiles) -> None:
    compiles.makes = [REFUSED]
    with pytest.raises(LastingBuildError, match="the sources do not fit"):
        build(driver(node), QUIET, RELEASE)


def test_it_is_told_at_once(fresh: FakeNode, compiles: Compiles) -> None:
    refuse(fresh, compiles)
    with pytest.raises(LastingBuildError) as caught:
        build(driver(fresh), QUIET, RELEASE)
    assert caught.value.message.startswith(f"{REFUSED.message} (on 20")
    assert caught.value.hint == "choose a version; --retry builds it all the same"
    assert len(compiles.recipes) == 1


@pytest.mark.parametrize("command", ["build", "up"])
def test_retry_builds_it(
    fresh: FakeNode,
    compiles: Compiles,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    refuse(fresh, compiles)
    assert fresh.run(command, "gpu-1.0") == 14
    assert len(compiles.recipes) == 1
    compiles.makes = [SOUND]
    assert fresh.run(command, "gpu-1.0", "--retry") == 0
    assert not list(fresh.cache.glob("builds/*/*.failed.*"))


def test_another_key_is_another_build(fresh: FakeNode, compiles: Compiles) -> None:
    refuse(fresh, compiles)
    fresh.define(make={"targets": "modules", "variables": {"X": "1"}})
    compiles.makes = [SOUND]
    assert not build(driver(fresh), QUIET, RELEASE).hit


def test_what_may_pass_is_not_remembered(fresh: FakeNode, compiles: Compiles) -> None:
    for _ in range(2):
        compiles.makes = [PASSING]
        with pytest.raises(BuildError, match="out of memory"):
            build(driver(fresh), QUIET, RELEASE)
    assert len(compiles.recipes) == 2


def test_another_drivers_is_left_and_a_damaged_record_is_none(
    fresh: FakeNode, compiles: Compiles
) -> None:
    refuse(fresh, compiles)
    (path,) = fresh.cache.glob("builds/*/*.failed.json")
    other = path.with_name("0" * 64 + ".failed.json")
    other.write_text(json.dumps({**json.loads(path.read_text()), "instance": "other-1"}))
    path.write_text("{")
    compiles.makes = [SOUND]
    assert fresh.run("build", "gpu-1.0", "--retry") == 0
    assert other.exists()


def test_it_goes_with_other_old_things(fresh: FakeNode, compiles: Compiles) -> None:
    refuse(fresh, compiles)
    (path,) = fresh.cache.glob("builds/*/*.failed.json")
    os.utime(path, (1, 1))
    collect(driver(fresh).site, QUIET, Bounds(max_age=60))
    assert not path.exists()
