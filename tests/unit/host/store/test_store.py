from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from modulus.core.store.keys import digest
from modulus.errors import IntegrityError, UsageError
from modulus.host.files.atomic import scratch
from modulus.host.report.reporter import PlainReporter
from modulus.host.store.objects import Objects
from modulus.host.store.store import Entry, Store

RELEASE = "6.1.0-1-amd64"
INPUTS: dict[str, Any] = {"recipe": "d" * 64, "source": "0", "profile": {"modules": ["m"]}}
KEY = digest(INPUTS)


def put(
    cache: Path,
    content: bytes = b"module",
    *,
    hashed: bytes | None = None,
    store: Store | None = None,
    **more: Any,
) -> Entry:
    store = store or Store(cache, (), PlainReporter())
    inputs = {**INPUTS, **more}
    with scratch(cache / "builds" / RELEASE, "build") as folder:
        (folder / "entry").mkdir()
        (folder / "m.ko").write_bytes(content)
        sha256 = hashlib.sha256(hashed or content).hexdigest()
        manifest = {
            "instance": "m-1",
            "flavour": "open",
            "inputs": inputs,
            "files": [{"path": "m.ko", "sha256": sha256, "size": len(content)}],
            "finished": "2020-01-01T00:00:00Z",
        }
        return store.commit(digest(inputs), RELEASE, folder / "entry", folder, manifest)


def content(entry: Entry, tmp_path: Path) -> bytes:
    with scratch(tmp_path, "content") as folder:
        entry.modules["m.ko"].write(folder / "m.ko", 0o640)
        assert (folder / "m.ko").stat().st_mode & 0o777 == 0o640
        return (folder / "m.ko").read_bytes()


def object_of(entry: Entry) -> Path:
    (name,) = entry.needs
    return entry.path.parents[2] / f"objects/{name}.zst"


def alike(number: int) -> bytes:
    """What a compiler may make of the same source for several kernels; not compressible."""
    chance = random.Random(1)
    parts = [chance.randbytes(100_000) for _ in range(20)]
    return f"{number}".encode().join(parts)


def make_old(entry: Entry, plain: bytes = b"module") -> None:
    """Gives ``entry`` the form in which older versions of Modulus stored it."""
    (entry.path / "m.ko").write_bytes(plain)
    manifest = json.loads((entry.path / "manifest.json").read_text())
    del manifest["files"][0]["object"]
    change(entry, schema=1, files=manifest["files"])
    object_of(entry).unlink(missing_ok=True)


def test_a_committed_entry_is_read_back(tmp_path: Path) -> None:
    put(tmp_path)
    entry = Store(tmp_path, (), PlainReporter()).get(KEY, RELEASE)
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


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


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
    good = object_of(entry).read_bytes()
    object_of(entry).write_bytes(zstd(b"mOdule"))
    store = Store(tmp_path, (), PlainReporter())
    (seen,) = store.entries()
    assert seen.damage() is not None
    object_of(entry).write_bytes(good)
    assert store.set_aside(seen) is None
    assert store.get(KEY, RELEASE) is not None


def test_an_extra_store_is_read_but_never_changed(tmp_path: Path) -> None:
    extra, own = tmp_path / "extra", tmp_path / "own"
    entry = put(extra)
    store = Store(own, (extra,), PlainReporter())
    found = store.get(KEY, RELEASE)
    assert found is not None and not found.own
    assert content(found, tmp_path) == b"module"
    object_of(entry).write_bytes(zstd(b"mOdule"))
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


def test_one_more_build_of_the_same_code_costs_a_patch(tmp_path: Path) -> None:
    first = put(tmp_path, alike(1), source="1")
    second = put(tmp_path, alike(2), source="2")
    assert content(first, tmp_path) == alike(1)
    assert content(second, tmp_path) == alike(2)
    assert second.needs == first.needs
    assert len(list((tmp_path / "objects").iterdir())) == 1
    assert (second.path / "m.ko.patch").stat().st_size < len(alike(2)) // 100
    # Of the third, the base is what the second is a patch against.
    shutil.rmtree(first.path)
    assert put(tmp_path, alike(3), source="3").needs == second.needs


def test_equal_content_is_stored_once(tmp_path: Path) -> None:
    entries = [put(tmp_path, alike(1), source=str(number)) for number in range(2)]
    assert len({entry.needs for entry in entries}) == 1
    assert not list(tmp_path.glob("builds/*/*/m.ko*"))


def test_other_code_is_stored_whole(tmp_path: Path) -> None:
    contents = [random.Random(number).randbytes(1 << 20) for number in range(3)]
    entries = [put(tmp_path, each, source=str(at)) for at, each in enumerate(contents)]
    assert len({entry.needs for entry in entries}) == 3
    assert [content(entry, tmp_path) for entry in entries] == contents
    assert not list(tmp_path.glob("builds/*/*/*.patch"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda patch: patch.unlink(),
        lambda patch: patch.write_bytes(b""),
        lambda patch: patch.write_bytes(patch.read_bytes()[:-1]),
        lambda patch: patch.write_bytes(patch.read_bytes()[:7]),
        lambda patch: patch.write_bytes(patch.read_bytes() * 2),
        lambda patch: patch.write_bytes(b"\xff" * 100),
        lambda patch: patch.write_bytes(bytes(8) + b"\xff" * 8 + bytes(100)),
        lambda patch: patch.write_bytes(
            struct.pack("<QII", 0, 0, len(zstd(bytes(1 << 20)))) + zstd(bytes(1 << 20))
        ),
        lambda patch: patch.write_bytes(struct.pack("<QII", 1 << 60, 1, 1) + b"x"),
    ],
)
def test_a_damaged_patch_is_no_hit_and_gives_way(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    put(tmp_path, alike(1), source="1")
    entry = put(tmp_path, alike(2), source="2")
    damage(entry.path / "m.ko.patch")
    store = Store(tmp_path, (), PlainReporter())
    assert store.get(entry.key, RELEASE) is None
    with pytest.raises((IntegrityError, FileNotFoundError)):
        entry.modules["m.ko"].write(tmp_path / "out", 0o644)
    assert not (tmp_path / "out").exists()
    again = put(tmp_path, alike(2), source="2")
    assert content(again, tmp_path) == alike(2)


def test_a_damaged_object_is_no_base_and_gives_way(tmp_path: Path) -> None:
    first = put(tmp_path, alike(1), source="1")
    object_of(first).write_bytes(zstd(alike(9)))
    second = put(tmp_path, alike(2), source="2")
    assert second.needs != first.needs
    again = put(tmp_path, alike(1), source="1")
    assert content(again, tmp_path) == alike(1)


def test_a_base_that_cannot_be_read_costs_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = random.Random(1).randbytes(1 << 20)
    put(tmp_path, code)

    class Broken:
        def read(self, limit: int) -> bytes:
            raise OSError(errno.EIO, "bad sector")

    @contextlib.contextmanager
    def opened(objects: Objects, sha256: str) -> Iterator[Any]:
        yield Broken()

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "open", opened)
        entry = put(tmp_path, code + b"more", kernel="other")
    assert entry.damage() is None
    assert content(entry, tmp_path) == code + b"more"


@pytest.mark.parametrize("name", ["../m", "/lib/modules/m", "a/b", ".m", "m\n"])
def test_a_foreign_manifest_does_not_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    inputs = {"source": "0", "profile": {"modules": [name]}}
    entry = foreign(tmp_path, inputs, f"{name}.ko")
    assert entry.manifest is None
    assert entry.modules == {}


@pytest.mark.parametrize("profile", ["x", ["m"], {"modules": "m"}, {"modules": {"m": 1}}, None])
def test_a_malformed_foreign_manifest_is_a_bad_entry(tmp_path: Path, profile: Any) -> None:
    assert foreign(tmp_path, {"source": "0", "profile": profile}, "m.ko").problem


def foreign(tmp_path: Path, inputs: dict[str, Any], file: str) -> Entry:
    """The entry of a manifest in another's store, as the store sees it."""
    key = digest(inputs)
    folder = tmp_path / "foreign/builds" / RELEASE / key
    folder.mkdir(parents=True)
    texts = dict.fromkeys(("instance", "flavour", "finished"), "x")
    files = [{"path": file, "sha256": "0" * 64, "size": 1}]
    manifest = {"schema": 1, "key": key, "kernel": RELEASE, **texts, "inputs": inputs}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files}))
    store = Store(tmp_path / "own", [tmp_path / "foreign"], PlainReporter())
    (entry,) = store.entries()
    return entry


def test_a_module_that_is_not_what_was_looked_at_is_not_stored(tmp_path: Path) -> None:
    put(tmp_path, alike(1), source="1")
    for changed in (alike(2), b"other"):
        with pytest.raises(IntegrityError, match=r"m\.ko changed"):
            put(tmp_path, changed, hashed=b"what it was", source="2")
    assert len(list(tmp_path.glob("builds/*/*"))) == 1
    assert len(list((tmp_path / "objects").iterdir())) == 1


def test_an_entry_of_an_older_modulus_is_read(tmp_path: Path) -> None:
    entry = put(tmp_path / "extra")
    make_old(entry)
    store = Store(tmp_path / "own", (tmp_path / "extra",), PlainReporter())
    found = store.get(KEY, RELEASE)
    assert found is not None and not found.needs
    assert content(found, tmp_path) == b"module"
    for bad in (b"mOdule", b"mod"):
        (entry.path / "m.ko").write_bytes(bad)
        assert store.get(KEY, RELEASE) is None
    assert store.find(KEY, RELEASE) is None


def test_stores_do_not_need_each_other(tmp_path: Path) -> None:
    put(tmp_path / "extra", alike(1), source="1")
    store = Store(tmp_path / "own", (tmp_path / "extra",), PlainReporter())
    entry = put(tmp_path / "own", alike(2), store=store, source="2")
    shutil.rmtree(tmp_path / "extra")
    assert content(entry, tmp_path) == alike(2)
