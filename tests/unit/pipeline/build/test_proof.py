"""What comes of building an entry once more; the compile itself is another's here."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable

import pytest

from modulus.core.build.proof import EQUAL, UNSTABLE
from modulus.core.store.manifest import WHOLE
from modulus.errors import (
    BuildError,
    IntegrityError,
    ToolchainError,
)
from modulus.host.build import resources
from modulus.host.build.proofs import read_disproofs, read_proof
from modulus.pipeline.build.proof import prove, unproved
from modulus.pipeline.build.recipe import takes_no_shortcuts
from modulus.pipeline.node import Node
from tests.support.fakedriver import FakeNode
from tests.support.headertrees import write
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
from tests.support.switching import active_name, command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


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
