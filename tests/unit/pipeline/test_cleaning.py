"""What a clean-up does with builds that share their objects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.host.files.atomic import tree_size
from modulus.host.store.store import Entry
from modulus.pipeline.cache import extract, listing, verify
from modulus.pipeline.cleaning import Bounds, collect
from modulus.pipeline.site import Site
from tests.support.fakedriver import FakeNode, fake_node, store_entry
from tests.support.headertrees import write
from tests.support.quiet import QUIET
from tests.support.stored import alike, object_of, put


class Cache:
    """A store with four builds, the oldest first: three of the same code, one of another."""

    def __init__(self, root: Path) -> None:
        self.site = Site(root, None, (), 0)
        self.path = self.site.cache
        contents = [alike(1), alike(2), alike(3), os.urandom(1_000_000)]
        self.entries = [self._put(content, str(at)) for at, content in enumerate(contents)]

    def _put(self, content: bytes, source: str) -> Entry:
        entry = put(self.path, content, source=source)
        os.utime(entry.path / "manifest.json", (int(source), int(source)))
        return entry

    @property
    def there(self) -> list[bool]:
        return [entry.path.exists() for entry in self.entries]

    @property
    def objects(self) -> set[str]:
        return {path.name for path in (self.path / "objects").iterdir()}

    @property
    def size(self) -> int:
        return sum(tree_size(self.path / folder) for folder in ("builds", "objects"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_an_object_goes_with_the_last_build_that_needs_it(cache: Cache) -> None:
    shared, alone = (object_of(cache.entries[at]) for at in (0, 3))
    before = cache.size
    assert collect(cache.site, QUIET, Bounds()) == []
    # The oldest two, of which one is what the other two are patches against.
    gone = collect(cache.site, QUIET, Bounds(max_size=before - 1))
    assert [item.path for item in gone] == [cache.entries[0].path]
    assert cache.objects == {shared.name, alone.name}
    assert [entry["state"] for entry in verify(cache.site, QUIET)] == ["good"] * 3
    gone = collect(cache.site, QUIET, Bounds(max_size=1_100_000))
    assert cache.there == [False, False, False, True]
    assert cache.objects == {alone.name}
    assert {item.path for item in gone} >= {shared}
    collect(cache.site, QUIET, Bounds(everything=True))
    assert cache.objects == set()
    assert cache.size == 0


def test_what_was_removed_is_what_is_told(cache: Cache) -> None:
    before = cache.size
    gone = collect(cache.site, QUIET, Bounds(max_size=1_100_000))
    assert sum(item.size for item in gone) == before - cache.size
    assert cache.size <= 1_100_000


def test_objects_that_a_killed_commit_left_go(cache: Cache) -> None:
    left = cache.path / f"objects/{'a' * 64}.zst"
    left.write_bytes(b"x")
    scratch = cache.path / "objects/.object.abcdefgh"
    scratch.mkdir()
    assert [item.path for item in collect(cache.site, QUIET, Bounds())] == [left]
    assert not left.exists() and not scratch.exists()
    assert len(cache.objects) == 2


def test_the_listing_counts_what_is_shared_once(cache: Cache) -> None:
    assert sum(entry["size"] for entry in listing(cache.site)) == cache.size


def test_a_lost_object_is_seen_without_hashing(cache: Cache) -> None:
    object_of(cache.entries[0]).unlink()
    assert [entry["state"] for entry in listing(cache.site)].count("bad") == 3
    assert [entry["state"] for entry in verify(cache.site, QUIET)].count("bad") == 3
    assert cache.there == [False, False, False, True]


def test_extract_makes_modules_of_patches(cache: Cache, tmp_path: Path) -> None:
    entry = cache.entries[1]
    (written,) = extract(cache.site, QUIET, entry.key, tmp_path / "out")
    assert written.read_bytes() == alike(2)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """It has headers and a toolchain, and other ones in a store."""
    for made in fake_node(tmp_path, monkeypatch):
        store = made.root / "mnt"
        for kind, name in (
            ("headers", "tree/build/Module.symvers"),
            ("toolchains", "root/usr/bin/make"),
        ):
            (own,) = (made.cache / kind).glob("*/record.json")
            record = json.loads(own.read_text())
            del record["id"], record["schema"]
            store_entry(store / kind, {name: "other"}, **record)
        made.configure(stores=["/mnt"])
        yield made


def test_headers_and_toolchains_are_verified_too(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    def verified() -> tuple[int, dict[str, Any]]:
        code = node.run("cache", "verify", "--json")
        return code, json.loads(capsys.readouterr().out)

    code, value = verified()
    assert code == 0
    kinds = ["headers", "headers", "toolchains", "toolchains"]
    assert [(one["kind"], one["state"]) for one in value["provided"]] == [
        (kind, "good") for kind in kinds
    ]
    (own,), (other,) = (
        list(folder.glob("headers/*/tree/build/Module.symvers"))
        for folder in (node.cache, node.root / "mnt")
    )
    for path in (own, other):
        path.write_text("x" * path.stat().st_size + "y")
    write(node.cache / "toolchains/junk")
    code, value = verified()
    assert code == 12
    bad = [one for one in value["provided"] if one["state"] == "bad"]
    # Our own are set aside, that of a store stays.
    assert [Path(one["path"]).parent.name for one in bad] == ["bad", "headers", "bad"]
    assert bad[1]["path"] == str(other.parents[2])
    assert all(one["id"][:12] in value["error"]["message"] for one in bad)
    assert not own.exists() and other.exists()
    assert node.run("cache", "verify") == 12
    shown = capsys.readouterr().out
    assert f"{other.parents[2].name[:12]}  bad   headers: it has another content" in shown
    node.run("cache", "gc")
    assert not list((node.cache / "bad").iterdir())
