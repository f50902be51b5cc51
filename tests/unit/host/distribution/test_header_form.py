"""The normal form of a header tree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.errors import ToolchainError
from modulus.host.distribution import header_form, header_tree
from tests.support import headertrees
from tests.support.headertrees import RELEASE, link, write

UBUNTU_RELEASE = "5.15.0-91-generic"

Maker = Callable[[Path], None]
LAYOUTS: list[tuple[Maker, str, set[str]]] = [
    (headertrees.debian, RELEASE, {"build", "source", "kbuild"}),
    (headertrees.ubuntu, UBUNTU_RELEASE, {"build", "source", "common"}),
    (headertrees.single, RELEASE, {"build", "source"}),
    (headertrees.in_place, RELEASE, {"build", "source"}),
    (headertrees.output_folder, RELEASE, {"build", "source"}),
]
layouts = pytest.mark.parametrize(
    ("make", "release", "parts"), LAYOUTS, ids=[make.__name__ for make, _, _ in LAYOUTS]
)


def normalised(root: Path, release: str, into: Path, *, move: bool = False) -> str:
    tree = header_tree.find(root, release)
    assert tree is not None
    assert header_tree.objection(tree, release) is None
    return header_form.normalise(tree, into, move=move)


@layouts
def test_normal_form(tmp_path: Path, make: Maker, release: str, parts: set[str]) -> None:
    make(tmp_path / "root")
    into = tmp_path / "tree"
    normalised(tmp_path / "root", release, into)
    assert {path.name for path in into.iterdir()} == parts
    for path in into.rglob("*"):
        assert path.resolve().is_relative_to(into.resolve())
        assert path.exists()
        if path.is_symlink():
            assert not os.readlink(path).startswith("/")
        elif path.is_file():
            assert path.stat().st_mode & 0o777 == (0o755 if "#!" in path.read_text() else 0o644)
    for name in ("vmlinux", "kernel/module.c", "scripts/mod/empty.o", ".git", "built-in.a"):
        assert not os.path.lexists(into / "build" / name)
        assert not os.path.lexists(into / "source" / name)
    for name in ("include/linux/module.h", "include/linux/alias.h", "scripts/mod/modpost.c"):
        assert any((into / part / name).is_file() for part in parts)
    makefile = (into / "build/Makefile").read_text()
    assert "/usr/src" not in makefile
    assert "/home" not in makefile


@layouts
def test_equal_trees_are_equal(
    tmp_path: Path, make: Maker, release: str, parts: set[str]
) -> None:
    first, second = tmp_path / "a", tmp_path / "another/place"
    make(first)
    make(second)
    for path in second.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o020)
            os.utime(path, (1, 1))
    one = normalised(first, release, tmp_path / "1")
    assert normalised(second, release, tmp_path / "2", move=True) == one
    write(first / "usr/src/linux-headers-x")
    assert normalised(first, release, tmp_path / "3") == one


@pytest.mark.parametrize(
    "change",
    [
        lambda build: write(
            build / "Module.symvers", "0x2\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"
        ),
        lambda build: write(build / "include/new.h"),
        lambda build: (build / "include/generated/autoconf.h").chmod(0o755),
        lambda build: link(build / "include/new.h", "generated/autoconf.h"),
    ],
)
def test_any_change_shows(tmp_path: Path, change: Callable[[Path], object]) -> None:
    headertrees.debian(tmp_path / "root")
    before = normalised(tmp_path / "root", RELEASE, tmp_path / "1")
    change(tmp_path / f"root/usr/src/linux-headers-{RELEASE}")
    assert normalised(tmp_path / "root", RELEASE, tmp_path / "2") != before


def test_debian_makefile_is_the_one_that_works_anywhere(tmp_path: Path) -> None:
    headertrees.debian(tmp_path / "root")
    normalised(tmp_path / "root", RELEASE, tmp_path / "tree")
    assert (tmp_path / "tree/build/Makefile").read_text() == (
        "include $(dir $(realpath $(lastword $(MAKEFILE_LIST))))../source/Makefile\n"
    )
    assert os.readlink(tmp_path / "tree/build/tools") == "../kbuild/tools"


def test_dangling_links_go(tmp_path: Path) -> None:
    headertrees.debian(tmp_path / "root")
    build = tmp_path / f"root/usr/src/linux-headers-{RELEASE}"
    link(build / "only/dangling", "/boot/nothing")
    link(build / "kernel.c", "vmlinux")
    link(build / "chain", "kernel.c")
    normalised(tmp_path / "root", RELEASE, tmp_path / "tree")
    for name in ("only", "kernel.c", "chain"):
        assert not os.path.lexists(tmp_path / "tree/build" / name)


def test_a_link_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    headertrees.single(tmp_path / "root")
    write(tmp_path / "root/etc/shadow", "secret\n")
    link(tmp_path / "root/usr/src/linux/include/evil.h", "../../../../etc/shadow")
    with pytest.raises(ToolchainError, match="leads out of it, to /etc/shadow"):
        normalised(tmp_path / "root", RELEASE, tmp_path / "tree")
