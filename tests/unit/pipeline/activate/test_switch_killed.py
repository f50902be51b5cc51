"""A switch that is killed, and one from somebody else's driver."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from modulus.core.instance import Instance
from modulus.errors import ModulusError
from modulus.host.generation.install import active_generation
from modulus.pipeline.activate.up import up
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import FakeNode
from tests.support.headertrees import write
from tests.support.kill import killed_at
from tests.support.quiet import QUIET
from tests.support.switching import (
    active_name,
    at_work,
    kept,
    selected,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


def prepare(node: FakeNode) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.stock("2.0")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], FakeNode]]:
    with kept(tmp_path_factory.mktemp("switch"), prepare) as fresh:
        yield fresh


@pytest.fixture
def node(fresh: Callable[[], FakeNode]) -> FakeNode:
    """With 1.0 at work, and 2.0 in the store."""
    return fresh()


def test_killed_at_any_point_the_next_run_ends_right(
    fresh: Callable[[], FakeNode], node: FakeNode
) -> None:
    """Before each program that runs, and each rename; the other instance comes up as well."""

    def work(version: str = "2.0") -> None:
        site = Site(node.root, None, (), 0)
        up(Node(site, Instance("gpu", version)), QUIET)

    step = 1
    left: object = None
    seen: set[object] = set()
    while killed_at(step, work, frozenset({"os.rename", "os.fork"})):
        assert active_generation(node.driver)
        before, left = left, (active_name(node), selected(node), tuple(node.loaded().items()))
        if left != before:
            seen.add(left)
            version = "12"[step % 2] + ".0"
            work(version)
            assert (at_work(node), selected(node)) == (version, f"gpu-{version}")
        fresh()
        step += 1
    # Selected, one module less, the other, swapped, one module more.
    assert len(seen) >= 5


def test_somebody_elses_driver_is_not_replaced(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    write(node.root / "sys/module/gpu/version", "1.5\n")
    write(node.root / "sys/module/gpu/srcversion", "S1.5-gpu\n")
    with pytest.raises(ModulusError, match=r"^gpu 1\.5 is loaded, not 2\.0$"):
        up(Node(Site(node.root, None, (), 0), Instance("gpu", "2.0")), QUIET)
    assert (node.ran(), selected(node), active_name(node)[:3]) == ([], "gpu-1.0", "1.0")
    assert capsys.readouterr().out == ""
