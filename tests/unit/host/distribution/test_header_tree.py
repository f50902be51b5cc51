"""A node's own header tree: what it lacks, and which kernel it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.host.distribution import header_tree
from tests.support import headertrees
from tests.support.headertrees import RELEASE, link


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".config", "it has no .config"),
        ("Module.symvers", "it has no Module.symvers"),
        ("scripts/mod/modpost", "it has no scripts/mod/modpost"),
        ("scripts/basic/fixdep", "it has no scripts/basic/fixdep"),
        ("tools/objtool/objtool", "it has no tools/objtool/objtool"),
        ("include/generated/autoconf.h", "it has no include/generated/autoconf.h"),
        ("include/generated/utsrelease.h", "it is for kernel unknown"),
    ],
)
def test_incomplete_trees(tmp_path: Path, name: str, reason: str) -> None:
    headertrees.single(tmp_path)
    (tmp_path / "usr/src/linux" / name).unlink()
    tree = header_tree.find(tmp_path, RELEASE)
    assert tree is not None
    assert header_tree.objection(tree, RELEASE) == reason


def test_a_tree_of_another_kernel(tmp_path: Path) -> None:
    headertrees.single(tmp_path, "6.1.0-98-amd64")
    link(tmp_path / f"lib/modules/{RELEASE}/build", "/usr/src/linux")
    tree = header_tree.find(tmp_path, RELEASE)
    assert tree is not None
    assert header_tree.objection(tree, RELEASE) == "it is for kernel 6.1.0-98-amd64"


def test_no_tree(tmp_path: Path) -> None:
    assert header_tree.find(tmp_path, RELEASE) is None
    headertrees.modules(tmp_path, RELEASE, "/usr/src/gone")
    assert header_tree.find(tmp_path, RELEASE) is None
