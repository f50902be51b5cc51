"""How files are copied, and what a kill or a full disk leaves."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from modulus.errors import BuildError
from modulus.host.files.atomic import remove_tree
from modulus.host.files.tree import copy_file
from modulus.host.generation.install import (
    activate,
    active_generation,
    verify_generation,
    write_selected,
)
from tests.support.fakeroot import NAME, FakeRoot, make_root
from tests.support.kill import killed_at
from tests.support.mount import tmpfs


@pytest.fixture
def node(tmp_path: Path) -> FakeRoot:
    return make_root(tmp_path)


@pytest.mark.parametrize("clone", [True, False], ids=["reflink", "refused"])
@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
def test_every_way_of_copying_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clone: bool, ranged: bool
) -> None:
    content = os.urandom(300_000)
    (tmp_path / "old").write_bytes(content)

    def ioctl(new: int, request: int, old: int) -> int:
        if not clone:
            raise OSError(95, "not supported")
        return os.write(new, os.pread(old, len(content), 0))

    def refuse(*_: object) -> int:
        raise OSError(18, "other file system")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    if not ranged:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    copy_file(tmp_path / "old", tmp_path / "new", 0o751)
    assert (tmp_path / "new").read_bytes() == content
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o751
    assert (tmp_path / "new").stat().st_nlink == 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what makes things last: what a kill can tear does not depend on it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
def test_kill_at_every_step_leaves_the_old_or_the_new(node: FakeRoot) -> None:
    old = node.up("1.0")
    seen: set[str] = set()
    step = 1
    while killed_at(step, lambda: node.up("2.0")):
        active = active_generation(node.driver)
        assert active is not None
        assert verify_generation(active, node.reporter) is None
        assert verify_generation(old, node.reporter) is None
        selected = (node.root / "var/lib/modulus/driver/selected").read_text()
        assert selected in ("driver-1.0\n", "driver-2.0\n")
        seen.add(f"{active.contents.identity.instance} {selected.strip()}")

        new = node.up("2.0")
        assert verify_generation(new, node.reporter) is None
        assert sorted(os.listdir(node.home)) == [old.name, new.name]
        assert not node.leftovers()

        remove_tree(new.path)
        (node.root / "etc/ld.so.conf.d/modulus-driver.conf").unlink()
        activate(node.driver, old)
        write_selected(node.driver, Instance(NAME, "1.0"))
        step += 1
    assert step > 60
    assert seen == {"driver-1.0 driver-1.0", "driver-2.0 driver-1.0", "driver-2.0 driver-2.0"}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with tmpfs(tmp_path / "small", "2m") as folder:
        yield folder


def test_a_full_disk_changes_nothing(small: Path, tmp_path: Path) -> None:
    node = FakeRoot(small / "root", tmp_path)
    old = node.up("1.0")
    with pytest.raises(BuildError, match="No space left on device") as caught:
        node.up("2.0", size=3_000_000)
    assert "make room" in caught.value.hint
    assert os.readlink(node.link) == f".driver/{old.name}"
    assert verify_generation(old, node.reporter) is None
    assert os.listdir(node.home) == [old.name]
    assert not node.leftovers()
    assert node.up("2.0", size=1000).changed
