"""What comes of building an entry once more; the compile itself is another's here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.core.build.proof import EQUAL, UNSTABLE
from modulus.core.build.recipe import Recipe
from modulus.core.instance import Instance
from modulus.core.store.manifest import TOGETHER, WHOLE
from modulus.errors import (
    BuildError,
    IntegrityError,
    ToolchainError,
    UnprovedError,
    WrongBuildError,
)
from modulus.host.build import resources
from modulus.host.build.module_check import Module
from modulus.host.build.proofs import read_disproofs, read_proof
from modulus.host.report.reporter import PlainReporter, Reporter
from modulus.host.store.store import Entry
from modulus.pipeline.build import build, job, proof
from modulus.pipeline.build.build import before_use
from modulus.pipeline.build.built import Built
from modulus.pipeline.build.compile import Basis
from modulus.pipeline.build.proof import prove, unproved
from modulus.pipeline.build.recipe import takes_no_shortcuts
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode, fake_node
from tests.support.fakepackage import MODULES, driver_module
from tests.support.headertrees import write
from tests.support.quiet import QUIET
from tests.support.switching import active_name, command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

INSTANCE = Instance("gpu", "1.0")
SOUND = {f"{name}.ko": driver_module(name, "1.0") for name in MODULES}
OTHER = SOUND | {"gpu.ko": SOUND["gpu.ko"] + b"other"}
WRONG = SOUND | {"gpu.ko": SOUND["gpu.ko"] + b"wrong"}


class Compiles:
    """In place of the compiler: what each compile in turn makes, and how it was asked for."""

    def __init__(self) -> None:
        self.makes: list[dict[str, bytes] | Exception] = []
        self.recipes: list[Recipe] = []
        self.object_name = ""

    def __call__(
        self,
        node: Node,
        reporter: Reporter,
        basis: Basis,
        recipe: Recipe,
        scratch: Path,
        *_: Any,
        **__: Any,
    ) -> tuple[Module, ...]:
        self.recipes.append(recipe)
        made = self.makes.pop(0)
        if isinstance(made, Exception):
            raise made
        for folder in ("entry", "out", "work/gpu"):
            (scratch / folder).mkdir(parents=True)
        modules = []
        for file, data in made.items():
            (scratch / "out" / file).write_bytes(data)
            name = f"{file}{self.object_name}" if self.object_name else f"{file[:-3]}.o"
            (scratch / "work/gpu" / name).write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
            modules.append(Module(file[:-3], file, sha256, len(data), "", None))
        return tuple(modules)


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> Compiles:
    found = Compiles()
    for module in (proof, job):
        monkeypatch.setattr(module, "compile_job", found)
    return found


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """A node whose store has gpu-1.0, made by a shortcut."""
    for node in fake_node(tmp_path, monkeypatch):
        shutil.rmtree(node.cache / "builds")
        node.stock(made=TOGETHER)
        yield node


def put_wrong(node: FakeNode) -> None:
    """Has the store a build with a wrong module in the place of the right one."""
    shutil.rmtree(node.cache / "builds")
    node.stock(made=TOGETHER, wrong=True)


def site_of(node: FakeNode, *words: str) -> Site:
    return Site(node.root, None, words, 0)


def stored(node: FakeNode) -> Entry:
    (entry,) = site_of(node).store.entries()
    return entry


def test_equal_modules_are_a_proof(node: FakeNode, compiles: Compiles) -> None:
    site, compiles.makes = site_of(node, "build.jobs=4"), [SOUND]
    assert prove(site, QUIET, stored(node)).result == EQUAL
    proved = read_proof(site.cache, stored(node))
    assert proved and proved.result == EQUAL
    assert list(unproved(site)) == []
    # Neither as many jobs as the build had, nor a shortcut.
    assert [(recipe.jobs, recipe.batch) for recipe in compiles.recipes] == [(5, False)]


def test_what_took_no_shortcut_wants_no_proof(node: FakeNode, compiles: Compiles) -> None:
    site = site_of(node)
    assert [entry.key for entry in unproved(site)] == [stored(node).key]
    shutil.rmtree(node.cache / "builds")
    node.stock(made=WHOLE)
    assert list(unproved(site)) == []
    shutil.rmtree(node.cache / "builds")
    node.stock()  # By an older Modulus.
    assert list(unproved(site)) == []
    assert compiles.recipes == []


def test_a_driver_that_never_comes_out_the_same_proves_nothing(
    node: FakeNode, compiles: Compiles
) -> None:
    site, compiles.makes = site_of(node), [OTHER, WRONG]
    assert prove(site, QUIET, stored(node)).result == UNSTABLE
    assert stored(node).damage() is None and list(unproved(site)) == []
    assert read_disproofs(node.driver) == ()


def test_verify_tells_of_such_a_driver(
    node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    compiles.makes = [OTHER, WRONG]
    prove(site_of(node), QUIET, stored(node))
    done = command(node, capsys, "verify", "gpu-1.0")
    assert [one["id"] for one in done["findings"]] == ["build-not-reproducible"]
    assert done["code"] == 0
    done = command(node, capsys, "status", "gpu-1.0")
    assert done["instances"][0]["proof"] == UNSTABLE


def test_a_wrong_build_is_replaced_and_its_recipe_takes_no_shortcut_again(
    node: FakeNode, compiles: Compiles
) -> None:
    put_wrong(node)
    site, wrong = site_of(node), stored(node)
    compiles.makes = [SOUND, SOUND, WRONG]
    with pytest.raises(
        IntegrityError, match=r"was built wrong: .*gpu/gpu\.o come out"
    ) as caught:
        prove(site, QUIET, wrong)
    assert caught.value.code == 12
    # The last one is the build as it was, to see in which objects it differs.
    assert len(compiles.recipes) == 3
    right = stored(node)
    assert right.key == wrong.key and right.manifest and right.manifest.made == WHOLE
    assert right.files[0].sha256 == hashlib.sha256(SOUND["gpu.ko"]).hexdigest()
    assert len(list((node.cache / "bad").iterdir())) == 1
    (disproof,) = read_disproofs(node.driver)
    assert disproof.objects == ("gpu/gpu.o",)
    assert takes_no_shortcuts(Node(site, INSTANCE), disproof.recipe)
    assert not takes_no_shortcuts(Node(site, INSTANCE), "f" * 64)


def test_where_the_shortcut_does_not_do_it_again_the_modules_are_named(
    node: FakeNode, compiles: Compiles
) -> None:
    put_wrong(node)
    compiles.makes = [SOUND, SOUND, SOUND]
    with pytest.raises(IntegrityError, match=r"shortcuts gpu\.ko come out otherwise"):
        prove(site_of(node), QUIET, stored(node))


def test_where_that_cannot_be_told_it_is_wrong_all_the_same(
    node: FakeNode, compiles: Compiles
) -> None:
    put_wrong(node)
    compiles.makes = [SOUND, SOUND, BuildError("no room", "make some")]
    with pytest.raises(IntegrityError, match=r"shortcuts gpu\.ko come out otherwise"):
        prove(site_of(node), QUIET, stored(node))
    assert [one.objects for one in read_disproofs(node.driver)] == [("gpu.ko",)]


def test_an_objects_name_may_be_anything(node: FakeNode, compiles: Compiles) -> None:
    put_wrong(node)
    compiles.makes = [SOUND, SOUND, WRONG]
    compiles.object_name = "\n\udcff.o"
    with pytest.raises(IntegrityError):
        prove(site_of(node), QUIET, stored(node))
    assert [one.objects for one in read_disproofs(node.driver)] == [("gpu/gpu.ko??.o",)]


def test_a_generation_with_wrong_modules_is_told_of_and_replaced_at_the_next_start(
    node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]
) -> None:
    put_wrong(node)
    assert node.run("up", "gpu-1.0") == 0
    before = active_name(node)
    compiles.makes = [SOUND, SOUND, WRONG]
    with pytest.raises(IntegrityError):
        prove(site_of(node), QUIET, stored(node))
    done = command(node, capsys, "verify", "gpu-1.0")
    (finding,) = done["findings"]
    assert (done["code"], finding["id"], finding["severity"]) == (
        0,
        "build-condemned",
        "warning",
    )
    assert "without shortcuts they differ, in gpu/gpu.o" in finding["cause"]
    node.reboot()
    done = command(node, capsys, "up", "gpu-1.0")
    assert (done["code"], done["phase"], done["findings"]) == (0, "ready", [])
    assert active_name(node) != before
    node.reboot()
    assert command(node, capsys, "up", "gpu-1.0")["warm"]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (
            lambda node: node.define(make={"targets": "other"}),
            "profile.targets is not at hand as it was",
        ),
        (
            lambda node: [
                write(path, "{}") for path in node.cache.glob("headers/*/record.json")
            ],
            "headers",
        ),
        (
            lambda node: [path.unlink() for path in (node.cache / "downloads").iterdir()],
            "the package of gpu-1.0 is not in the cache",
        ),
        (
            lambda node: node.configure(build={"container": "none"}),
            "the host takes part in the build",
        ),
    ],
)
def test_what_is_not_at_hand_proves_nothing(
    node: FakeNode, compiles: Compiles, spoil: Callable[[FakeNode], object], why: str
) -> None:
    entry = stored(node)
    spoil(node)
    with pytest.raises(ToolchainError, match=f"^unproved: {entry.key[:12]}: ") as caught:
        prove(site_of(node), QUIET, entry)
    assert why in caught.value.message
    assert compiles.recipes == [] and stored(node).damage() is None


def test_a_build_that_fails_proves_nothing(node: FakeNode, compiles: Compiles) -> None:
    compiles.makes = [BuildError("no room", "make some")]
    with pytest.raises(ToolchainError, match=r"^unproved: .*: no room$"):
        prove(site_of(node), QUIET, stored(node))
    compiles.makes = [OSError(28, "No space left on device")]
    with pytest.raises(ToolchainError, match=r"^unproved: .*No space left"):
        prove(site_of(node), QUIET, stored(node))
    assert stored(node).damage() is None


@pytest.mark.parametrize("number", ["_JOB", "_DISK"])
def test_with_little_memory_or_room_nothing_is_begun(
    node: FakeNode, compiles: Compiles, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setattr(resources, number, 1 << 60)
    with pytest.raises(ToolchainError, match=r"^unproved: .* MiB (of memory )?are free"):
        prove(site_of(node), QUIET, stored(node))
    assert compiles.recipes == []


def test_a_battery_is_not_emptied(
    node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]
) -> None:
    supply = node.root / "sys/class/power_supply/BAT0"
    write(supply / "type", "Battery\n")
    write(supply / "status", "Discharging\n")
    assert resources.on_battery(node.root)
    done = command(node, capsys, "cache", "reproduce", "--unproved", "--idle")
    assert (done["code"], done["error"]["message"]) == (
        13,
        "unproved: this node runs on a battery",
    )
    write(supply / "status", "Full\n")
    assert not resources.on_battery(node.root)
    assert compiles.recipes == []


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
