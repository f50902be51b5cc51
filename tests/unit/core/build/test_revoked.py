"""What was built by a revoked recipe is told of, replaced where it can be, and collected."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.agent.prebuild.setup import next_kernels
from modulus.core.build.revoked import FIRST, REVOKED, recipe_of, revoked
from modulus.core.instance import Instance
from modulus.host.report.reporter import PlainReporter
from modulus.host.reuse.object_cache import FOLDER
from modulus.host.store.store import Entry
from modulus.pipeline.cache import extract, listing
from modulus.pipeline.cleaning import Bounds, collect
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode, fake_node
from tests.support.headertrees import write
from tests.support.quiet import QUIET
from tests.support.stored import put
from tests.support.switching import active_name, command

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")
WHY = REVOKED[FIRST]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """With 1.0 at work, as an older Modulus built it; the store has it by today's recipe."""
    for node in fake_node(tmp_path, monkeypatch):
        assert node.run("up", "gpu-1.0") == 0
        forget_recipe(node)
        yield node


def forget_recipe(node: FakeNode) -> None:
    path = node.link / "generation.json"
    value = json.loads(path.read_text())
    assert len(value.pop("recipe")) == 64
    path.write_text(json.dumps(value))


def findings(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[Any]]:
    done = command(node, capsys, "verify", "gpu-1.0")
    return done["code"], [one for one in done["findings"] if one["id"] == "build-condemned"]


def test_builds_without_a_digest_are_of_the_first_recipe() -> None:
    assert revoked(None) == revoked(recipe_of({"recipe": 1})) == revoked(recipe_of({})) == WHY
    assert revoked(recipe_of({"recipe": "a" * 64})) is None


@ROOT
def test_verify_warns_and_the_driver_stays_ready(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (finding,) = findings(node, capsys)
    assert code == 0
    assert (finding["severity"], finding["fix"]) == (
        "warning",
        "modulus build gpu-1.0, then reboot",
    )
    assert WHY in finding["cause"]
    # Loaded as it is, it stays what is told of, though the store has another.
    done = command(node, capsys, "up", "gpu-1.0")
    assert (done["code"], done["phase"], done["warm"]) == (0, "ready", True)
    assert [one["id"] for one in done["findings"]] == ["build-condemned"]


@ROOT
def test_the_next_boot_takes_the_other_build(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    old = active_name(node)
    node.reboot()
    done = command(node, capsys, "up", "gpu-1.0")
    assert (done["code"], done["phase"], done["warm"]) == (0, "ready", False)
    assert done["findings"] == [] and active_name(node) != old
    assert findings(node, capsys) == (0, [])
    node.reboot()
    assert command(node, capsys, "up", "gpu-1.0")["warm"]


@ROOT
def test_without_another_build_it_starts_as_ever(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    old = active_name(node)
    node.forget_builds()
    node.configure(offline=True)
    node.reboot()
    done = command(node, capsys, "up", "gpu-1.0")
    assert (done["code"], done["phase"], done["warm"]) == (0, "ready", True)
    assert active_name(node) == old


@ROOT
def test_it_is_built_again_ahead_of_the_next_boot(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    site, instance = Site(node.root, None, (), None), Instance("gpu", "1.0")
    assert RELEASE in next_kernels(site, instance)
    done = command(node, capsys, "build", "gpu-1.0", "--all-kernels")
    (result,) = done["results"]
    assert Path(result["path"]).parent.name == RELEASE  # The store's, not the generation's.
    node.reboot()
    assert node.run("up", "gpu-1.0") == 0
    assert RELEASE not in next_kernels(site, instance)


@ROOT
@pytest.mark.parametrize("stored", [True, False], ids=["another build", "none"])
def test_a_rollback_to_it_warns(
    node: FakeNode, capsys: pytest.CaptureFixture[str], stored: bool
) -> None:
    node.stock("2.0")
    assert node.run("up", "gpu-2.0") == 0
    if not stored:
        node.forget_builds()
    capsys.readouterr()
    assert node.run("rollback", "gpu") == 0
    said = capsys.readouterr().err
    assert f"were built by is revoked: {WHY}" in said
    assert ("the next boot takes another build of gpu-1.0 in their place" in said) is stored


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "root", None, (), 0)


@pytest.fixture
def builds(site: Site) -> tuple[Entry, Entry]:
    """One by the first recipe, one by another."""
    return put(site.cache, b"old", recipe=1), put(site.cache, b"new", recipe="a" * 64)


def test_gc_collects_it(site: Site, builds: tuple[Entry, Entry]) -> None:
    (site.root / "opt/drivers").mkdir(parents=True)
    collect(site, QUIET, Bounds())
    assert [entry.path.exists() for entry in builds] == [False, True]


def test_gc_leaves_what_the_active_generation_is_made_of(
    site: Site, builds: tuple[Entry, Entry]
) -> None:
    drivers = site.root / "opt/drivers"
    drivers.mkdir(parents=True)
    (drivers / "m").symlink_to(f".m/1-{RELEASE}-{builds[0].key[:12]}-{'0' * 8}")
    collect(site, QUIET, Bounds())
    assert [entry.path.exists() for entry in builds] == [True, True]
    assert [one["protected"] for one in listing(site)].count(True) == 1


@pytest.mark.parametrize(
    ("manifest", "kept"),
    [
        ({"schema": 1, "release": "6.1", "assembly": None}, False),
        ({"schema": 2, "recipe": "1"}, False),
        ({"schema": 2, "recipe": "b" * 64}, True),
        ({"schema": 2}, False),
        ("[", False),
    ],
)
def test_gc_collects_objects_that_nothing_can_use(
    site: Site, manifest: Any, kept: bool
) -> None:
    folder = site.cache / FOLDER / ("f" * 64) / ("d" * 64)
    rest = {"release": "6.1", "archive": "c" * 64, "blobs": [], "comments": []}
    text = manifest if isinstance(manifest, str) else json.dumps({**rest, **manifest})
    write(folder / "manifest.json", text)
    collect(site, QUIET, Bounds())
    assert folder.exists() is kept


def test_extract_warns(tmp_path: Path) -> None:
    log = io.StringIO()
    site = Site(tmp_path / "root", None, (), 0)
    old = put(site.cache, b"old", recipe=1)
    extract(site, PlainReporter(log), old.key, tmp_path / "out")
    assert f"{old.key[:12]} was built by a revoked recipe: {WHY}" in log.getvalue()
