"""Which header trees are the same but for the release."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.host.reuse.header_digest import survey
from tests.support.headertrees import write
from tests.support.smallbuild import GENERATED, NEW, OLD, headers


def test_trees_that_differ_in_the_release_alone_are_twins(tmp_path: Path) -> None:
    old, new = headers(tmp_path / "one", OLD), headers(tmp_path / "second", NEW)
    assert survey(old, OLD).digest == survey(new, NEW).digest


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (f"{GENERATED}/uapi/linux/version.h", "#define LINUX_VERSION_CODE 393665\n"),
        (f"{GENERATED}/compile.h", '#define LINUX_COMPILER "clang"\n'),
        (f"{GENERATED}/utsrelease.h", f'#define UTS_RELEASE "{NEW}"\n#define X\n'),
        (f"{GENERATED}/utsrelease.h", "#define UTS_RELEASE 7\n"),
        ("build/.config", f'CONFIG_SMP=n\nCONFIG_BUILD_SALT="{NEW}"\n'),
        ("build/.kernelvariables", "override ARCH = x86\noverride KERNELRELEASE = other\n"),
        ("build/include/config/kernel.release", "other\n"),
        ("build/Module.symvers", "0x0\tprintk\tvmlinux\tEXPORT_SYMBOL_GPL\t\n"),
        ("build/include/linux/module.h", "found first\n"),
        ("source/include/linux/module.h", f'#define UTS_RELEASE "{NEW}"\n'),
    ],
)
def test_any_other_difference_makes_another_tree(tmp_path: Path, path: str, text: str) -> None:
    old, new = headers(tmp_path / "old", OLD), headers(tmp_path / "new", NEW)
    write(new / path, text)
    assert survey(old, OLD).digest != survey(new, NEW).digest


def test_a_mode_or_a_link_makes_another_tree(tmp_path: Path) -> None:
    tree = headers(tmp_path / "tree", OLD)
    first = survey(tree, OLD).digest
    (tree / "source/include/linux/module.h").chmod(0o755)
    second = survey(tree, OLD).digest
    (tree / "source/include/linux/alias.h").symlink_to("module.h")
    assert len({first, second, survey(tree, OLD).digest}) == 3
