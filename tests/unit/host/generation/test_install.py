from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from modulus.core.generation.generation import Identity
from modulus.core.instance import Instance
from modulus.core.kernel.identity import KernelId
from modulus.errors import BuildError, ConfigError
from modulus.host.generation.install import (
    Generation,
    activate,
    active_generation,
    install_generation,
    verify_generation,
)
from tests.support.fakeroot import NAME, RELEASE, FakeRoot, make_root, plain


@pytest.fixture
def node(tmp_path: Path) -> FakeRoot:
    return make_root(tmp_path)


def state(folder: Path) -> dict[Path, tuple[int, ...]]:
    """What changes with any change below ``folder``, and with no mere look."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {path: (at.st_ino, at.st_mtime_ns, at.st_ctime_ns) for path, at in found}


def test_a_generation_holds_all_and_is_its_own(node: FakeRoot) -> None:
    old = os.umask(0o077)
    try:
        generation = node.up()
    finally:
        os.umask(old)
    assert os.readlink(node.link) == f".driver/{generation.name}"
    for name in ("bin", "lib", "firmware", "share", f"lib/modules/{RELEASE}"):
        assert (node.link / name).is_dir()
    module = node.link / "lib/modules" / RELEASE / "driver.ko"
    assert module.read_bytes() == (node.work / "driver.ko").read_bytes()
    assert (node.link / "lib/libd.so.1").read_bytes()[:4] == b"\x7fELF"
    for path in (node.root / "opt").rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        if stat.S_ISREG(status.st_mode):
            assert status.st_nlink == 1
            wanted = 0o755 if path.suffix == "" or ".so" in path.name else 0o644
            assert stat.S_IMODE(status.st_mode) == wanted, path
        elif stat.S_ISDIR(status.st_mode):
            assert stat.S_IMODE(status.st_mode) == 0o755, path
    value = json.loads((generation.path / "generation.json").read_text())
    assert value["instance"] == "driver-1.0"
    assert value["kernel"] == RELEASE
    assert value["userspace"] == "a" * 64
    assert (node.root / "var/lib/modulus/driver/selected").read_text() == "driver-1.0\n"
    assert not node.leftovers()


def test_what_is_wanted_again_is_the_newest_of_its_instance(node: FakeRoot) -> None:
    """By which a start tells which one a pending switch is to."""
    first = node.install("1.0").path / "generation.json"
    second = node.install("2.0").path / "generation.json"
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    node.install("2.0")
    assert second.stat().st_mtime == 2
    node.install("1.0")
    assert first.stat().st_mtime > 2


def test_what_is_installed_is_not_installed_again(node: FakeRoot) -> None:
    first = node.up()
    before = state(node.root)
    second = node.up()
    assert (first.changed, second.changed) == (True, False)
    assert second.path == first.path
    assert state(node.root) == before
    assert "is there already and whole" in node.log.getvalue()


def test_the_old_generation_stays_beside_the_new(node: FakeRoot) -> None:
    first, second = node.up("1.0"), node.up("2.0")
    assert os.readlink(node.link) == f".driver/{second.name}"
    assert verify_generation(first, node.reporter) is None
    assert activate(node.driver, first)
    active = active_generation(node.driver)
    assert active is not None
    assert active.name == first.name
    assert active.contents == first.contents
    assert active.path == first.path


def test_nothing_is_active_in_an_empty_root(node: FakeRoot) -> None:
    assert active_generation(node.driver) is None


def test_a_manifest_that_is_gone_makes_nothing_active(node: FakeRoot) -> None:
    generation = node.up()
    (generation.path / "generation.json").unlink()
    assert active_generation(node.driver) is None


@pytest.mark.parametrize("damage", ["flip", "remove", "mode", "link", "manifest", "type"])
def test_a_damaged_generation_is_left_alone_and_a_fresh_one_made(
    node: FakeRoot, damage: str
) -> None:
    first = node.up()
    tool = first.path / "bin/tool"
    if damage == "flip":
        tool.write_bytes(tool.read_bytes().swapcase())
    elif damage == "remove":
        tool.unlink()
    elif damage == "mode":
        tool.chmod(0o4755)
    elif damage == "link":
        (first.path / "lib/libd.so.1").unlink()
    elif damage == "manifest":
        (first.path / "generation.json").write_text("[]")
    else:
        tool.unlink()
        tool.mkdir()
    before = state(first.path)
    assert verify_generation(first, node.reporter)
    second = node.up()
    assert second.name == f"{first.name}.2"
    assert second.changed
    assert state(first.path) == before
    assert (node.link / "bin/tool").read_bytes() == b"#!/bin/sh\necho 1.0\n"
    third = node.up()
    assert (third.name, third.changed) == (second.name, False)


def test_links_added_by_ldconfig_are_no_damage(node: FakeRoot) -> None:
    generation = node.up()
    (generation.path / "lib/libother.so.1").symlink_to("libd.so.1.0")
    assert not node.up().changed


def test_a_driver_without_userspace(node: FakeRoot) -> None:
    generation = node.install(bare=True)
    assert activate(node.driver, generation)
    assert generation.contents.userspace is None
    assert [file.path for file in generation.contents.tree.files] == [
        f"lib/modules/{RELEASE}/driver.ko"
    ]
    assert os.listdir(node.link / "bin") == []


def test_other_builds_of_one_version_are_other_generations(node: FakeRoot) -> None:
    names = {node.install(key=key).name for key in ("a" * 64, "b" * 64)}
    assert len(names) == 2


@pytest.mark.parametrize("kind", ["folder", "file", "link out", "dotdot"])
def test_what_is_not_ours_is_not_replaced(node: FakeRoot, kind: str) -> None:
    node.link.parent.mkdir(parents=True)
    if kind == "folder":
        (node.link / "lib").mkdir(parents=True)
    elif kind == "file":
        node.link.write_text("precious")
    else:
        node.link.symlink_to("/srv/driver" if kind == "link out" else ".driver/..")
    before = state(node.root)
    with pytest.raises(ConfigError, match="which Modulus did not make") as caught:
        node.install()
    assert f"mv {node.link} " in caught.value.hint
    generation = Generation("1.0", node.home / "1.0", Any)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        activate(node.driver, generation)
    assert state(node.root) == before
    assert not node.home.exists()


def test_a_source_that_vanishes_is_no_bug(node: FakeRoot) -> None:
    userspace = node.userspace()
    module = node.work / "driver.ko"
    module.write_bytes(b"module")
    (userspace.path / "bin/tool").unlink()
    identity = Identity(Instance(NAME, "1.0"), "open", KernelId(RELEASE), "c" * 64)
    args = (identity, {"driver.ko": plain(module)}, userspace)
    with pytest.raises(BuildError, match="bin/tool vanished"):
        install_generation(node.root, *args, node.reporter)
    (userspace.path / "bin/tool").write_bytes(b"#!/bin/sh\necho 9.9\n")
    with pytest.raises(BuildError, match="not what was recorded"):
        install_generation(node.root, *args, node.reporter)
    assert os.listdir(node.home) == []


@pytest.mark.parametrize("folder", ["opt", "opt/drivers", "opt/drivers/.driver", "var", "etc"])
def test_absolute_links_stay_in_the_root(node: FakeRoot, tmp_path: Path, folder: str) -> None:
    # Not below any of the folders, wherever temporary ones are.
    outside = Path("/", tmp_path.name, "outside")
    link = node.root / folder
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rename(node.root / "moved")
    link.symlink_to(outside)
    inside = node.root / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    generation = node.up()
    assert not outside.exists()
    assert any(inside.rglob("*"))
    assert generation.path.is_relative_to(node.root)
    active = active_generation(node.driver)
    assert active is not None
    assert active.name == generation.name


def test_a_loop_of_links_is_a_configuration_error(node: FakeRoot) -> None:
    (node.root / "opt").symlink_to("opt")
    with pytest.raises(ConfigError, match="symbolic links"):
        node.install()
