"""How modules are stored: whole, once, or as a patch; and what damage does to them."""

from __future__ import annotations

import contextlib
import errno
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.errors import IntegrityError
from modulus.host.store.objects import Objects
from modulus.host.store.store import Store
from tests.support.quiet import QUIET
from tests.support.stored import RELEASE, alike, content, object_of, put, zstd


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
    store = Store(tmp_path, ())
    assert store.get(entry.key, RELEASE, QUIET) is None
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


def test_a_module_that_is_not_what_was_looked_at_is_not_stored(tmp_path: Path) -> None:
    put(tmp_path, alike(1), source="1")
    for changed in (alike(2), b"other"):
        with pytest.raises(IntegrityError, match=r"m\.ko changed"):
            put(tmp_path, changed, hashed=b"what it was", source="2")
    assert len(list(tmp_path.glob("builds/*/*"))) == 1
    assert len(list((tmp_path / "objects").iterdir())) == 1
