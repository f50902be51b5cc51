"""Manifests that somebody else wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modulus.core.store.keys import digest
from modulus.host.store.store import Entry, Store
from tests.support.stored import RELEASE


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
    store = Store(tmp_path / "own", [tmp_path / "foreign"])
    (entry,) = store.entries()
    return entry
