"""Entries of the store: found, bad, of another store, of an older version."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modulus.errors import UsageError
from modulus.host.report.reporter import PlainReporter
from modulus.host.store.store import Entry, Store
from tests.support.quiet import QUIET
from tests.support.stored import INPUTS, KEY, RELEASE, alike, content, object_of, put, zstd


def make_old(entry: Entry, plain: bytes = b"module") -> None:
    """Gives ``entry`` the form in which older versions of Modulus stored it."""
    (entry.path / "m.ko").write_bytes(plain)
    manifest = json.loads((entry.path / "manifest.json").read_text())
    del manifest["files"][0]["object"]
    change(entry, schema=1, files=manifest["files"])
    object_of(entry).unlink(missing_ok=True)


def test_a_committed_entry_is_read_back(tmp_path: Path) -> None:
    put(tmp_path)
    entry = Store(tmp_path, ()).get(KEY, RELEASE, QUIET)
    assert entry is not None
    assert entry.own
    assert content(entry, tmp_path) == b"module"
    assert not list((tmp_path / "builds" / RELEASE).glob(".*"))


def test_losing_the_race_keeps_the_first_entry(tmp_path: Path) -> None:
    first = put(tmp_path, content=b"first")
    second = put(tmp_path, content=b"second")
    assert content(second, tmp_path) == b"first"
    assert second.path == first.path


def change(entry: Entry, **values: Any) -> None:
    path = entry.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def file_of(entry: Entry) -> dict[str, Any]:
    manifest = json.loads((entry.path / "manifest.json").read_text())
    return dict(manifest["files"][0])


FILE = {"path": "m.ko", "sha256": "0" * 64, "size": 6, "object": "0" * 64}


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: object_of(entry).write_bytes(zstd(b"mOdule")),
        lambda entry: object_of(entry).write_bytes(zstd(b"mod")),
        lambda entry: object_of(entry).write_bytes(zstd(bytes(1 << 20))),
        lambda entry: object_of(entry).write_bytes(zstd(b"module")[:-3]),
        lambda entry: object_of(entry).write_bytes(b"module"),
        lambda entry: object_of(entry).write_bytes(b""),
        lambda entry: object_of(entry).unlink(),
        lambda entry: make_pipe(object_of(entry)),
        lambda entry: change(entry, files=[{**file_of(entry), "object": "../" * 20}]),
        lambda entry: change(entry, files=[{**file_of(entry), "object": None}]),
        lambda entry: (entry.path / "manifest.json").write_text('{"files"'),
        lambda entry: (entry.path / "manifest.json").write_text("[" * 100_000),
        lambda entry: (entry.path / "manifest.json").unlink(),
        lambda entry: change(entry, schema=99),
        lambda entry: change(entry, kernel="6.1.0-2-amd64"),
        lambda entry: change(entry, instance="x\x1b[31m"),
        lambda entry: change(entry, inputs=None),
        lambda entry: change(entry, inputs={**INPUTS, "source": "1"}),
        lambda entry: change(entry, files=[]),
        lambda entry: change(entry, files=[FILE, FILE]),
        lambda entry: change(entry, files=[{**FILE, "path": "../../../secret"}]),
        lambda entry: change(entry, files=[{**FILE, "path": "a\0b"}]),
        lambda entry: change(entry, files=[{"path": "m.ko"}]),
    ],
)
def test_a_bad_entry_is_no_hit_and_gives_way_to_a_new_one(
    tmp_path: Path, damage: Callable[[Entry], object], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(put(tmp_path))
    store = Store(tmp_path, ())
    assert store.get(KEY, RELEASE, PlainReporter()) is None
    assert store.get(KEY, RELEASE, PlainReporter()) is None
    assert capsys.readouterr().err.count("is bad and not used") == 1
    (listed,) = store.entries()
    assert listed.damage() is not None
    put(tmp_path)
    assert store.get(KEY, RELEASE, QUIET) is not None
    assert len(list(store.bad())) == 1


def test_what_was_mended_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    entry = put(tmp_path)
    good = object_of(entry).read_bytes()
    object_of(entry).write_bytes(zstd(b"mOdule"))
    store = Store(tmp_path, ())
    (seen,) = store.entries()
    assert seen.damage() is not None
    object_of(entry).write_bytes(good)
    assert store.set_aside(seen) is None
    assert store.get(KEY, RELEASE, QUIET) is not None


def test_an_extra_store_is_read_but_never_changed(tmp_path: Path) -> None:
    extra, own = tmp_path / "extra", tmp_path / "own"
    entry = put(extra)
    store = Store(own, (extra,))
    found = store.get(KEY, RELEASE, QUIET)
    assert found is not None and not found.own
    assert content(found, tmp_path) == b"module"
    object_of(entry).write_bytes(zstd(b"mOdule"))
    assert store.get(KEY, RELEASE, QUIET) is None
    assert entry.path.exists()
    assert not own.exists()


def test_lookup_by_prefix_wants_exactly_one(tmp_path: Path) -> None:
    keys = [put(tmp_path, source=str(number)).key for number in range(2)]
    store = Store(tmp_path, ())
    assert store.lookup(keys[0]).key == keys[0]
    for prefix in ("", "no"):
        with pytest.raises(UsageError):
            store.lookup(prefix)


def test_an_entry_of_an_older_modulus_is_read(tmp_path: Path) -> None:
    entry = put(tmp_path / "extra")
    make_old(entry)
    store = Store(tmp_path / "own", (tmp_path / "extra",))
    found = store.get(KEY, RELEASE, QUIET)
    assert found is not None and not found.needs
    assert content(found, tmp_path) == b"module"
    for bad in (b"mOdule", b"mod"):
        (entry.path / "m.ko").write_bytes(bad)
        assert store.get(KEY, RELEASE, QUIET) is None
    assert store.find(KEY, RELEASE) is None


def test_stores_do_not_need_each_other(tmp_path: Path) -> None:
    put(tmp_path / "extra", alike(1), source="1")
    store = Store(tmp_path / "own", (tmp_path / "extra",))
    entry = put(tmp_path / "own", alike(2), store=store, source="2")
    shutil.rmtree(tmp_path / "extra")
    assert content(entry, tmp_path) == alike(2)
