"""When a build is proved: before its use, for all at once, for another store."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from modulus.core.build.proof import EQUAL
from modulus.core.store.manifest import TOGETHER, WHOLE
from modulus.errors import (
    BuildError,
    IntegrityError,
    UnprovedError,
    WrongBuildError,
)
from modulus.host.build.proofs import read_proof
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.build import build
from modulus.pipeline.build.build import before_use
from modulus.pipeline.build.built import Built
from modulus.pipeline.build.proof import prove, unproved
from modulus.pipeline.node import Node
from tests.support.fakedriver import RELEASE, FakeNode
from tests.support.proving import (
    INSTANCE,
    OTHER,
    SOUND,
    WRONG,
    Compiles,
    put_wrong,
    site_of,
    stored,
)
from tests.support.quiet import QUIET
from tests.support.switching import command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


def test_before_use_what_is_wrong_is_replaced(node: FakeNode, compiles: Compiles) -> None:
    put_wrong(node)
    log = io.StringIO()
    site = site_of(node, "build.prove=before-use")
    driver = Node(site, INSTANCE)
    compiles.makes = [SOUND, SOUND, WRONG]
    built = before_use(
        driver, PlainReporter(log), Built(stored(node), RELEASE, "open", False, 1.0)
    )
    assert built.entry.manifest and built.entry.manifest.made == WHOLE
    assert "build: " in log.getvalue() and "was built wrong" in log.getvalue()
    # Once is enough, and otherwise it is left to the agent.
    assert before_use(driver, QUIET, built) == built
    compiles.makes = []
    shutil.rmtree(node.cache / "builds")
    node.stock(made=TOGETHER)
    idle = Node(site_of(node), INSTANCE)
    built = Built(stored(node), RELEASE, "open", False, 1.0)
    assert before_use(idle, QUIET, built) == built


@pytest.mark.parametrize(
    "proof_of",
    [
        [BuildError("no room", "make some")],
        [IntegrityError("the archive is damaged", "fetch it anew")],
        [OTHER, WRONG],  # It never comes out the same.
    ],
)
def test_before_use_what_cannot_be_proved_is_built_plainly(
    node: FakeNode, compiles: Compiles, proof_of: list[Any]
) -> None:
    driver = Node(site_of(node, "build.prove=before-use"), INSTANCE)
    unproved_yet = stored(node)
    compiles.makes = [*proof_of, SOUND]
    built = before_use(driver, QUIET, Built(unproved_yet, RELEASE, "open", False, 1.0))
    assert compiles.makes == [] and not compiles.recipes[-1].batch
    assert built.entry.key == unproved_yet.key
    assert built.entry.manifest and built.entry.manifest.made == WHOLE
    # Once, not at every start.
    compiles.recipes.clear()
    assert before_use(driver, QUIET, built) == built and compiles.recipes == []


def test_what_was_proved_by_another_is_not_built_again(
    node: FakeNode, compiles: Compiles
) -> None:
    site, before = site_of(node), stored(node)
    compiles.makes = [SOUND]
    prove(site, QUIET, before)
    assert prove(site, QUIET, before, again=False).result == EQUAL
    # Of other modules under that key it says nothing.
    put_wrong(node)
    assert [entry.key for entry in unproved(site)] == [before.key]


def test_a_stale_look_at_the_store_harms_nothing(node: FakeNode, compiles: Compiles) -> None:
    put_wrong(node)
    site, wrong = site_of(node), stored(node)
    compiles.makes = [SOUND, SOUND, WRONG]
    with pytest.raises(WrongBuildError):
        prove(site, QUIET, wrong)
    # Somebody who has looked before.
    compiles.makes = [SOUND]
    assert prove(site, QUIET, wrong).result == EQUAL
    assert len(list((node.cache / "bad").iterdir())) == 1
    shutil.rmtree(wrong.path)
    with pytest.raises(UnprovedError, match="it is gone"):
        prove(site, QUIET, wrong)
    assert not wrong.path.exists()


def test_what_was_disproved_is_no_hit_again(
    node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]
) -> None:
    put_wrong(node)
    other = node.root / "srv/store"
    other.mkdir(parents=True)
    for kind in ("builds", "objects"):
        shutil.copytree(node.cache / kind, other / kind)
    node.configure(offline=True, stores=["/srv/store"])
    compiles.makes = [SOUND, SOUND, WRONG]
    with pytest.raises(WrongBuildError):
        prove(site_of(node), QUIET, site_of(node).store.lookup(""))
    # The cache may be deleted at any time, and the store has the wrong one still.
    shutil.rmtree(node.cache / "builds")
    assert command(node, capsys, "plan", "gpu-1.0")["hit"] is False
    compiles.makes = [SOUND]
    driver = Node(site_of(node), INSTANCE)
    made = build.build(driver, QUIET, RELEASE)
    assert not made.hit and made.entry.own
    assert made.entry.manifest and made.entry.manifest.made == WHOLE


def test_all_goes_on_and_what_is_wrong_weighs_most(
    node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]
) -> None:
    put_wrong(node)
    node.stock("2.0", made=TOGETHER)
    # Whichever comes first: one cannot be told, the other is wrong.
    first = next(iter(site_of(node).store.entries()))
    wrong_first = first.manifest is not None and first.manifest.instance == "gpu-1.0"
    wrong: list[Any] = [SOUND, SOUND, WRONG]
    failed: list[Any] = [BuildError("no room", "make some")]
    compiles.makes = [*wrong, *failed] if wrong_first else [*failed, *wrong]
    done = command(node, capsys, "cache", "reproduce", "--all")
    assert done["code"] == done["error"]["code"] == 12
    assert sorted(one["error"]["code"] for one in done["proofs"]) == [12, 13]


def test_of_another_store_the_proof_is_in_the_own_cache(
    node: FakeNode, compiles: Compiles, tmp_path: Path
) -> None:
    other = node.root / "srv/store"
    other.mkdir(parents=True)
    for kind in ("builds", "objects"):
        (node.cache / kind).rename(other / kind)
    node.configure(offline=True, stores=["/srv/store"])
    site, compiles.makes = site_of(node), [SOUND]
    (entry,) = site.store.entries()
    assert not entry.own and list(unproved(site)) == []
    assert prove(site, QUIET, entry).result == EQUAL
    assert read_proof(site.cache, entry)
    assert not (entry.path / "proof.json").exists()
    assert json.loads((node.cache / f"proofs/{entry.key}.json").read_text())["result"] == EQUAL
