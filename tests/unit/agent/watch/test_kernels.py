"""Kernels that come and go below a root, told by the kernel's own messages on folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.agent.loop import Loop
from modulus.agent.watch.kernels import Kernels
from modulus.core.agent.events import KERNELS, Event
from modulus.host.kernel.facts import kernel_facts, kernel_folders, stored_builds
from tests.support.mainloop import run_until, turn


def install(root: Path, release: str) -> Path:
    folder = root / "usr/lib/modules" / release
    folder.mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/fs/ext4.ko\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    install(tmp_path, "6.1.0-1-a")
    return tmp_path


@pytest.fixture
def told(root: Path) -> Iterator[list[str]]:
    """What a source tells, one that never waits for folders to be quiet."""
    texts: list[str] = []

    def tell(event: Event) -> None:
        assert event.kind == KERNELS
        texts.append(event.text)

    source = Kernels(Loop(), root, tell, settle=0.0)
    source.start()
    yield texts
    source.stop()


def test_a_new_kernel_is_told_once_it_is_whole(root: Path, told: list[str]) -> None:
    folder = root / "usr/lib/modules/6.1.0-2-a"
    folder.mkdir()
    (folder / "kernel").mkdir()
    turn()
    assert told == []
    # As a package manager does it.
    (folder / "modules.builtin.dpkg-new").write_text("")
    (folder / "modules.builtin.dpkg-new").rename(folder / "modules.builtin")
    run_until(lambda: told)
    assert told == ["kernel 6.1.0-2-a was installed"]


def test_a_removed_one_too(root: Path, told: list[str]) -> None:
    folder = root / "usr/lib/modules/6.1.0-1-a"
    (folder / "modules.builtin").unlink()
    folder.rmdir()
    run_until(lambda: told)
    assert told == ["kernel 6.1.0-1-a was removed"]


def test_headers_that_come_behind_a_dangling_link(root: Path, told: list[str]) -> None:
    (root / "usr/lib/modules/6.1.0-1-a/build").symlink_to("/usr/src/headers-a")
    turn()
    tree = root / "usr/src/headers-a"
    tree.mkdir(parents=True)
    run_until(lambda: told)
    told.clear()
    (tree / "Module.symvers").write_text("0x1 printk vmlinux EXPORT_SYMBOL\n")
    run_until(lambda: told)
    assert set(told) == {"kernel 6.1.0-1-a was changed, or its headers"}


def test_what_changes_nothing_for_a_build_is_not_told(root: Path, told: list[str]) -> None:
    folder = root / "usr/lib/modules/6.1.0-1-a"
    (folder / "modules.dep").write_text("")
    (root / "run/modulus/kernels/changed").touch()
    turn()
    turn()
    assert told == []


def test_the_bell_of_the_hooks_is_not_waited_for(root: Path) -> None:
    texts: list[str] = []
    source = Kernels(Loop(), root, lambda event: texts.append(event.text), settle=3600)
    source.start()
    try:
        install(root, "6.1.0-3-a")
        turn()
        assert texts == [], "a package may still be unpacked"
        (root / "run/modulus/kernels/changed").touch()
        run_until(lambda: texts)
        assert texts == ["kernel 6.1.0-3-a was installed"]
        texts.clear()
        # A second time, with the file there already.
        os.utime(install(root, "6.1.0-4-a") / "modules.builtin")
        (root / "run/modulus/kernels/changed").touch()
        run_until(lambda: texts)
        assert texts == ["kernel 6.1.0-4-a was installed"]
    finally:
        source.stop()


def test_it_can_be_started_again(root: Path) -> None:
    texts: list[str] = []
    source = Kernels(Loop(), root, lambda event: texts.append(event.text), settle=0.0)
    for _ in range(2):
        source.start()
        source.start()
        source.stop()
        source.stop()
    install(root, "6.1.0-5-a")
    turn()
    assert texts == []


def test_the_same_release_of_another_package_is_another_kernel(root: Path) -> None:
    before = kernel_facts(root)
    builtin = root / "usr/lib/modules/6.1.0-1-a/modules.builtin"
    builtin.unlink()
    builtin.write_text("kernel/fs/ext4.ko\n")
    os.utime(builtin, ns=(1, 1))
    assert kernel_facts(root).keys() == before.keys()
    assert kernel_facts(root) != before


def test_where_there_is_no_kernel(tmp_path: Path) -> None:
    assert kernel_facts(tmp_path) == {}
    assert list(kernel_folders(tmp_path)) == [tmp_path / "lib/modules"]
    assert stored_builds(tmp_path, "6.1") == frozenset()


def test_only_builds_count_as_stored(tmp_path: Path) -> None:
    folder = tmp_path / "builds/6.1"
    for name in ("0123abc", ".build.x1y2", "0123abc.failed.log"):
        (folder / name).mkdir(parents=True)
    assert stored_builds(tmp_path, "6.1") == {"0123abc"}
