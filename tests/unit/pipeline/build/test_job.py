"""A build from what was compiled for a twin of the kernel; the compile is another's here."""

from __future__ import annotations

import io
import shutil

import pytest

from modulus.core.store.manifest import TWIN, WHOLE
from modulus.errors import BuildError
from modulus.host.report.reporter import PlainReporter
from modulus.host.reuse.object_cache import Kept
from modulus.pipeline.build.job import FromKept, FromPackage
from modulus.pipeline.build.prepare import prepare
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode
from tests.unit.pipeline.build.test_proof import (  # noqa: F401 - fixtures
    INSTANCE,
    SOUND,
    Compiles,
    compiles,
    node,
    pytestmark,
)


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def driver(node: FakeNode, said: io.StringIO) -> Node:  # noqa: F811 - the fixture
    """Its store has no build."""
    shutil.rmtree(node.cache / "builds")
    return Node(Site(node.root, None, (), 0, PlainReporter(said)), INSTANCE)


@pytest.fixture
def whole(driver: Node) -> FromPackage:
    job = prepare(driver, RELEASE)
    assert isinstance(job, FromPackage)
    return job


@pytest.fixture
def kept(driver: Node) -> Kept:
    path = driver.site.cache / "compiled/family/twin"
    path.mkdir(parents=True)
    return Kept(path, "6.1.0-1-amd64", "f" * 64, "0" * 64, (), ())


def test_a_build_of_kept_objects_says_so(
    driver: Node,
    whole: FromPackage,
    kept: Kept,
    compiles: Compiles,  # noqa: F811 - the fixture
) -> None:
    compiles.makes = [SOUND]
    built = FromKept(whole.basis, kept, lambda: whole).make(driver)
    assert built.entry.manifest and built.entry.manifest.made == TWIN
    assert kept.path.is_dir()


def test_where_kept_objects_are_of_no_use_they_go_and_all_is_compiled(
    driver: Node,
    whole: FromPackage,
    kept: Kept,
    compiles: Compiles,  # noqa: F811 - the fixture
    said: io.StringIO,
) -> None:
    compiles.makes = [BuildError("modpost: no such symbol", "see the log"), SOUND]
    built = FromKept(whole.basis, kept, lambda: whole).make(driver)
    assert built.entry.manifest and built.entry.manifest.made == WHOLE
    assert not kept.path.exists()
    assert "all is compiled after all: modpost: no such symbol" in said.getvalue()
