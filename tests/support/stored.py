"""Entries of a store, made as a build would make them, of contents that a test names."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import zstandard

from modulus.core.store.keys import digest
from modulus.host.files.atomic import scratch
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
    store = store or Store(cache, ())
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


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)
