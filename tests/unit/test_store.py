from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modulus.core.keys import digest
from modulus.errors import UsageError
from modulus.host.files import scratch
from modulus.host.report import PlainReporter
from modulus.host.store import Entry, Store

RELEASE = "6.1.0-1-amd64"
INPUTS: dict[str, Any] = {"source": "0", "profile": {"modules": ["m"]}}
KEY = digest(INPUTS)


def put(cache: Path, content: bytes = b"module", **more: Any) -> Entry:
    store = Store(cache, (), PlainReporter())
    inputs = {**INPUTS, **more}
    with scratch(cache / "builds" / RELEASE, "build") as folder:
        (folder / "m.ko").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        manifest = {
            "instance": "m-1",
            "flavour": "open",
            "inputs": inputs,
            "files": [{"path": "m.ko", "sha256": sha256, "size": len(content)}],
            "finished": "2020-01-01T00:00:00Z",
        }
        return store.commit(digest(inputs), RELEASE, folder, manifest)


def test_a_committed_entry_is_read_back(tmp_path: Path) -> None:
    put(tmp_path)
    entry = Store(tmp_path, (), PlainReporter()).get(KEY, RELEASE)
    assert entry is not None
    assert entry.own
    assert entry.modules["m.ko"].read_bytes() == b"module"
    assert not list((tmp_path / "builds" / RELEASE).glob(".*"))


def test_losing_the_race_keeps_the_first_entry(tmp_path: Path) -> None:
    first = put(tmp_path, content=b"first")
    second = put(tmp_path, content=b"second")
    assert second.modules["m.ko"].read_bytes() == b"first"
    assert second.path == first.path


def change(entry: Entry, **values: Any) -> None:
    path = entry.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


FILE = {"path": "m.ko", "sha256": "0" * 64, "size": 6}


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry.path / "m.ko").write_bytes(b"mOdule"),
        lambda entry: (entry.path / "m.ko").write_bytes(b"mod"),
        lambda entry: (entry.path / "m.ko").unlink(),
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
    store = Store(tmp_path, (), PlainReporter())
    assert store.get(KEY, RELEASE) is None
    assert store.get(KEY, RELEASE) is None
    assert capsys.readouterr().err.count("is bad and not used") == 1
    (listed,) = store.entries()
    assert listed.damage() is not None
    put(tmp_path)
    assert store.get(KEY, RELEASE) is not None
    assert len(list(store.bad())) == 1


def test_what_was_mended_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    entry = put(tmp_path)
    (entry.path / "m.ko").write_bytes(b"mOdule")
    store = Store(tmp_path, (), PlainReporter())
    (seen,) = store.entries()
    assert seen.damage() is not None
    (entry.path / "m.ko").write_bytes(b"module")
    assert store.set_aside(seen) is None
    assert store.get(KEY, RELEASE) is not None


def test_an_extra_store_is_read_but_never_changed(tmp_path: Path) -> None:
    extra, own = tmp_path / "extra", tmp_path / "own"
    entry = put(extra)
    store = Store(own, (extra,), PlainReporter())
    found = store.get(KEY, RELEASE)
    assert found is not None and not found.own
    (entry.path / "m.ko").write_bytes(b"mOdule")
    assert store.get(KEY, RELEASE) is None
    assert entry.path.exists()
    assert not own.exists()


def test_lookup_by_prefix_wants_exactly_one(tmp_path: Path) -> None:
    keys = [put(tmp_path, source=str(number)).key for number in range(2)]
    store = Store(tmp_path, (), PlainReporter())
    assert store.lookup(keys[0]).key == keys[0]
    for prefix in ("", "no"):
        with pytest.raises(UsageError):
            store.lookup(prefix)
