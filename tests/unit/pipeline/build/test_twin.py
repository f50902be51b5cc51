"""When objects that were kept are worth a look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modulus.core.build.plan import Facts
from modulus.core.instance import Instance
from modulus.host.reuse.object_cache import KeptObjects
from modulus.pipeline.build import twin
from modulus.pipeline.build.plan import gather
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode, fake_node


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    for node in fake_node(tmp_path, monkeypatch):
        node.define(remake={"harmless": []})
        node.configure(build={"container": "nspawn"})
        yield node


@pytest.fixture
def node(fake: FakeNode) -> Node:
    return Node(Site(fake.root, None, (), 0), Instance("gpu", "1.0"))


@pytest.fixture
def facts(node: Node) -> Facts:
    """All is known, and nothing was kept."""
    known = gather(node, RELEASE)
    assert not twin.is_hoped_for(node, known)
    return replace(
        known, toolchain="c" * 64, headers="d" * 64, source="e" * 64, downloaded=True
    )


def keep(node: Node, family: str) -> None:
    path = KeptObjects(node.site.cache).folder / family / "0" / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")


def test_of_what_is_known_the_family_counts(node: Node, facts: Facts) -> None:
    keep(node, "another")
    assert not twin.is_hoped_for(node, facts)
    keep(node, twin.family_of(facts))
    assert twin.is_hoped_for(node, facts)
    # It leaves out the headers, not the package.
    assert twin.is_hoped_for(node, replace(facts, headers="f" * 64))
    assert not twin.is_hoped_for(node, replace(facts, source="f" * 64))


@pytest.mark.parametrize("unknown", ["headers", "toolchain"])
def test_before_a_new_kernels_headers_are_there_anything_may_do(
    node: Node, facts: Facts, unknown: str
) -> None:
    changes: dict[str, Any] = {unknown: None}
    new = replace(facts, **changes)
    assert not twin.is_hoped_for(node, new)
    keep(node, "another")
    assert twin.is_hoped_for(node, new)
    # One that is to be fetched is fetched while the headers come.
    assert not twin.is_hoped_for(node, replace(new, downloaded=False))


def test_without_a_container_nothing_that_was_kept_is_used(
    fake: FakeNode, node: Node, facts: Facts
) -> None:
    keep(node, twin.family_of(facts))
    fake.configure(build={"container": "none"})
    bare = Node(Site(fake.root, None, (), 0), node.instance)
    assert not twin.is_hoped_for(bare, facts)
