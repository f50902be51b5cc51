"""A build from what was compiled for a twin of the kernel; the compile is another's here."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from modulus.core.build.proof import Disproof
from modulus.core.kernel.release import Compiler
from modulus.core.store.manifest import TWIN, WHOLE
from modulus.errors import BuildError
from modulus.host.build.proofs import add_disproof
from modulus.host.report.reporter import PlainReporter
from modulus.host.reuse.object_cache import Kept
from modulus.host.store.store import Entry, Store
from modulus.pipeline.build import twin
from modulus.pipeline.build.build import build
from modulus.pipeline.build.job import FromKept, FromPackage
from modulus.pipeline.build.prepare import prepare
from modulus.pipeline.build.recipe import recipe_digest_for, recipe_for
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode
from tests.support.proving import INSTANCE, SOUND, Compiles
from tests.support.quiet import QUIET

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def driver(node: FakeNode) -> Node:
    """Its store has no build."""
    shutil.rmtree(node.cache / "builds")
    return Node(Site(node.root, None, (), 0), INSTANCE)


@pytest.fixture
def whole(driver: Node) -> FromPackage:
    job = prepare(driver, QUIET, RELEASE)
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
    compiles: Compiles,
) -> None:
    compiles.makes = [SOUND]
    built = FromKept(whole.basis, kept, lambda _: whole).make(driver, QUIET)
    assert built.entry.manifest and built.entry.manifest.made == TWIN
    assert kept.path.is_dir()


def test_where_kept_objects_are_of_no_use_they_go_and_all_is_compiled(
    driver: Node,
    whole: FromPackage,
    kept: Kept,
    compiles: Compiles,
    said: io.StringIO,
) -> None:
    compiles.makes = [BuildError("modpost: no such symbol", "see the log"), SOUND]
    built = FromKept(whole.basis, kept, lambda _: whole).make(driver, PlainReporter(said))
    assert built.entry.manifest and built.entry.manifest.made == WHOLE
    assert not kept.path.exists()
    assert "all is compiled after all: modpost: no such symbol" in said.getvalue()


def test_what_is_disproved_while_it_waits_for_the_lock_is_built_plainly(
    node: FakeNode,
    driver: Node,
    compiles: Compiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node.define(make={"targets": "modules", "batch": True})
    whole = prepare(driver, QUIET, RELEASE)
    assert isinstance(whole, FromPackage)
    lock, recipe = Site.lock, whole.basis.facts.recipe
    assert recipe and recipe_for(driver, RELEASE, Compiler("gcc", "gcc-12", "12")).batch

    @contextlib.contextmanager
    def locked(self: Site, *arguments: Any, **options: Any) -> Iterator[None]:
        with lock(self, *arguments, **options):
            disproof = Disproof(recipe, "0" * 64, (), (), "2026-01-01T00:00:00Z")
            add_disproof(driver.paths, disproof)
            yield

    monkeypatch.setattr(Site, "lock", locked)
    compiles.makes = [SOUND]
    built = whole.make(driver, QUIET)
    assert built.entry.manifest and built.entry.manifest.made == WHOLE
    assert [recipe.batch for recipe in compiles.recipes] == [False]


@pytest.mark.parametrize("outcome", ["compiled", "kept", "stored"])
def test_a_build_reads_the_manifests_once_and_only_to_explain_itself(
    node: FakeNode,
    compiles: Compiles,
    said: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    outcome: str,
) -> None:
    driver = Node(Site(node.root, None, (), 0), INSTANCE)
    if outcome != "stored":
        (entry,) = driver.site.store.entries()
        shutil.rmtree(entry.path)
        node.stock("2.0")
        compiles.makes = [SOUND]
    if outcome == "kept":
        # They turn out to be of no use.
        compiles.makes = [BuildError("modpost: no such symbol", "see the log"), SOUND]
        path = driver.site.cache / "compiled/family/twin"
        path.mkdir(parents=True)
        objects = Kept(path, "6.1.0-1-amd64", "f" * 64, "0" * 64, (), ())
        monkeypatch.setattr(twin, "is_hoped_for", lambda *_: True)
        monkeypatch.setattr(twin, "find", lambda *_: objects)
    reads: list[int] = []
    entries = Store.entries

    def counted(self: Store) -> Iterator[Entry]:
        reads.append(1)
        return entries(self)

    monkeypatch.setattr(Store, "entries", counted)
    assert build(driver, PlainReporter(said), RELEASE).hit is (outcome == "stored")
    assert len(reads) == (outcome != "stored")
    told = [line for line in said.getvalue().splitlines() if line.startswith("plan: miss: ")]
    assert len(told) == (outcome != "stored")


LLVM = Compiler("clang", "clang-14", "14.0.6", "ld.lld-14", assembler=True)


def test_for_a_kernel_by_llvm_all_of_it_is_part_of_the_recipe(
    node: FakeNode, driver: Node
) -> None:
    node.define(make={"targets": "modules", "batch": True, "variables": {"LD": "own"}})
    recipe = recipe_for(driver, RELEASE, LLVM)
    assert recipe.variables["LLVM"] == "-14"
    assert recipe.variables["OBJCOPY"] == "llvm-objcopy-14"
    assert recipe.variables["LD"] == "own", "the profile knows better"
    assert recipe.strip == "llvm-strip-14"
    assert not recipe.batch, "it is made for GCC"
    others = (replace(LLVM, linker=""), replace(LLVM, linker="ld.lld-15"))
    digests = {recipe_digest_for(driver, RELEASE, one) for one in (LLVM, *others)}
    assert len(digests) == 3


def test_for_a_kernel_by_gcc_make_is_given_what_the_profile_says(driver: Node) -> None:
    recipe = recipe_for(driver, RELEASE, Compiler("gcc", "gcc-12", "12.2.0", assembler=False))
    assert recipe.variables == driver.profile.make_for(RELEASE).variables
    assert recipe.strip == "strip"
