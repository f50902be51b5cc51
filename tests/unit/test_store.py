from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from modulus.errors import UsageError
from modulus.host.files import scratch
from modulus.host.report import PlainReporter
from modulus.host.store import Entry, Store

RELEASE = "6.1.0-1-amd64"
KEY = "a" * 64


def put(cache: Path, key: str = KEY, content: bytes = b"module") -> Entry:
    store = Store(cache, (), PlainReporter())
    with scratch(cache / "builds" / RELEASE, "build") as folder:
        (folder / "m.ko").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        file = {"path": "m.ko", "sha256": digest, "size": len(content)}
        return store.commit(key, RELEASE, folder, {"instance": "m-1", "files": [file]})


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


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest", "schema"])
def test_a_bad_entry_is_set_aside(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = put(tmp_path)
    module, manifest = entry.path / "m.ko", entry.path / "manifest.json"
    if damage == "flip":
        module.write_bytes(b"mOdule")
    elif damage == "truncate":
        module.write_bytes(b"mod")
    elif damage == "remove":
        module.unlink()
    elif damage == "manifest":
        manifest.write_text('{"files"')
    else:
        manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 99'))
    store = Store(tmp_path, (), PlainReporter())
    assert store.get(KEY, RELEASE) is None
    assert not entry.path.exists()
    assert len(list(store.bad())) == 1
    assert "is bad" in capsys.readouterr().err


def test_a_path_in_a_manifest_cannot_leave_the_entry(tmp_path: Path) -> None:
    entry = put(tmp_path)
    manifest = entry.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"m.ko"', '"../../../secret"'))
    assert Store(tmp_path, (), PlainReporter()).get(KEY, RELEASE) is None


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
    put(tmp_path, "ab" + "0" * 62)
    put(tmp_path, "ac" + "0" * 62)
    store = Store(tmp_path, (), PlainReporter())
    assert store.lookup("ab").key.startswith("ab")
    for prefix in ("a", "b"):
        with pytest.raises(UsageError):
            store.lookup(prefix)
