"""``cache gc`` beside a proof, which holds no lock of the cache, and what goes of proofs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modulus.host.files import atomic
from modulus.pipeline.cache import verify_provided
from modulus.pipeline.cleaning import Bounds, collect
from modulus.pipeline.site import Site
from tests.support.fakedriver import store_entry
from tests.support.headertrees import write
from tests.support.quiet import QUIET

KEY = "ab" * 32


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, None, (), 0)


def test_what_a_proof_works_in_stays_and_what_a_dead_one_left_goes(site: Site) -> None:
    folder = site.cache / "builds/6.1.0-9-amd64"
    left = folder / f".{KEY}.abcdefgh"
    write(left / "work/a.c", "int a;\n")
    with atomic.scratch(folder, KEY) as scratch:
        write(scratch / "work/a.c", "int a;\n")
        collect(site, QUIET, Bounds(everything=True))
        assert (scratch / "work/a.c").exists()
        assert not left.exists()


def test_a_folder_that_goes_meanwhile_ends_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = site.cache / "builds/6.1.0-9-amd64"
    write(release / f".{KEY}.abcdefgh/a.c", "")
    write(site.cache / "downloads/.file.abcdefgh/a", "")
    sweep_all = atomic.sweep_all
    swept: list[Path] = []

    def vanishing(parent: Path) -> None:
        swept.append(parent)
        if parent == release:
            # Between the listing of a folder and its turn another process may end.
            atomic.remove_tree(release)
            raise FileNotFoundError(release)
        sweep_all(parent)

    monkeypatch.setattr(atomic, "sweep_all", vanishing)
    assert collect(site, QUIET, Bounds()) == []
    assert release in swept
    assert not (site.cache / "downloads/.file.abcdefgh").exists()


def test_toolchains_that_nothing_finds_any_more_go(site: Site) -> None:
    names = ("debian/bookworm/amd64/gcc-12", "2/debian/bookworm/amd64/gcc-12")
    stays, goes = (
        store_entry(
            site.cache / "toolchains",
            {"root/usr/bin/make": name},
            found_by=[name],
            cc="gcc-12",
            packages={},
            created="2024-01-01T00:00:00Z",
        )
        for name in names
    )
    # It is called by something else than its content, which is no damage.
    old = goes.rename(goes.with_name("a" * 64))
    record = json.loads((old / "record.json").read_text())
    write(old / "record.json", json.dumps({**record, "id": old.name}))
    assert [(one["id"], one["state"]) for one in verify_provided(site, QUIET)] == [
        (stays.name, "good")
    ]
    assert [item.path for item in collect(site, QUIET, Bounds())] == [old]
    assert stays.exists() and not old.exists()


@pytest.mark.parametrize(
    ("bounds", "goes"),
    [(Bounds(everything=True), True), (Bounds(max_age=60), True), (Bounds(), False)],
    ids=["all", "old", "neither"],
)
def test_proofs_of_other_stores_builds_are_collected(
    site: Site, bounds: Bounds, goes: bool
) -> None:
    proof = site.cache / f"proofs/{KEY}.json"
    write(proof, "{}\n")
    os.utime(proof, (0, 0))
    assert [item.path for item in collect(site, QUIET, bounds)] == ([proof] if goes else [])
    assert proof.exists() is not goes
