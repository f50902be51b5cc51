"""Imports of modules against what the kernel and their siblings export."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.kernel.elf import KernelModule, read_module
from modulus.core.kernel.symvers import Export, check_imports, parse_symvers
from modulus.errors import ToolchainError
from tests.support.elfmaker import kernel_module

KERNEL = {
    "module_layout": Export(0x1111, False),
    "_printk": Export(0x2222, False),
    "kobject_put": Export(0x3333, True),
    "in_assembly": Export(0, False),
}


@pytest.mark.parametrize(
    ("line", "name", "export"),
    [
        ("0x4c9d28b0\tphys_base\tvmlinux\tEXPORT_SYMBOL\t", "phys_base", (0x4C9D28B0, False)),
        ("0x00000000\ta\tdrivers/x/y\tEXPORT_SYMBOL_GPL\tNS", "a", (0, True)),
        ("0x00000001\tb\tvmlinux\tEXPORT_SYMBOL", "b", (1, False)),
        ("0x00000002\tc\tNS\tvmlinux\tEXPORT_SYMBOL_GPL", "c", (2, True)),
        ("0x00000003\tEXPORT_me\tvmlinux\tEXPORT_SYMBOL_GPL", "EXPORT_me", (3, True)),
    ],
)
def test_a_line_of_symvers(line: str, name: str, export: tuple[int, bool]) -> None:
    assert parse_symvers([line + "\n"]) == {name: Export(*export)}


@pytest.mark.parametrize("line", ["", "0x1\ta\tvmlinux", "x\ta\tvmlinux\tEXPORT_SYMBOL"])
def test_a_damaged_symvers_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(ToolchainError, match="line 2"):
        parse_symvers(["0x00000001\tb\tvmlinux\tEXPORT_SYMBOL\n", line])


@given(st.lists(st.text()))
def test_symvers_never_fails_otherwise(lines: list[str]) -> None:
    with contextlib.suppress(ToolchainError):
        parse_symvers(lines)


def module(
    *imports: str,
    licence: str = "Proprietary",
    versions: dict[str, int] | None = None,
    exports: dict[str, int | None] | None = None,
) -> KernelModule:
    known = {"module_layout": 0x1111, "_printk": 0x2222, "kobject_put": 0x3333}
    return read_module(
        kernel_module(
            modinfo={"license": licence},
            undefined=imports,
            versions=known if versions is None else versions,
            exports=exports,
        )
    )


@pytest.mark.parametrize(
    ("built", "problem"),
    [
        (module("_printk", "in_assembly"), None),
        (module("kobject_put", licence="GPL"), None),
        (module("kobject_put", licence="Dual MIT/GPL"), None),
        (module("kobject_put", licence="MIT"), "'MIT' forbids the GPL-only kobject_put"),
        (module("gone", "away"), "nothing exports away, gone"),
        (module("_printk", versions={"module_layout": 0x1111}), "has no version of _printk"),
        (
            module("_printk", versions={"module_layout": 0x1111, "_printk": 9}),
            "was built for another version of _printk",
        ),
        (module(versions={}), "has no version of module_layout"),
        (module(versions={"module_layout": 1}), "was built for another version of module_"),
        (module(*"abcdefg"), "nothing exports a, b, c, d, e and 2 more"),
    ],
)
def test_one_module(built: KernelModule, problem: str | None) -> None:
    problems = check_imports({"m": built}, KERNEL)
    if problem is None:
        assert problems == ()
    else:
        assert len(problems) == 1
        assert problems[0].startswith("m: ")
        assert problem in problems[0]


def test_a_kernel_without_versions_wants_none() -> None:
    assert check_imports({"m": module("f", versions={})}, {"f": Export(0, False)}) == ()


@pytest.mark.parametrize(("expected", "ok"), [(0x77, True), (0x78, False)])
def test_modules_use_each_other(expected: int, ok: bool) -> None:
    versions = {"module_layout": 0x1111, "shared": expected}
    modules = {
        "user": module("shared", versions=versions),
        "owner": module(exports={"shared": 0x77}),
    }
    problems = check_imports(modules, KERNEL)
    assert (problems == ()) is ok
    if not ok:
        assert problems == ("user: was built for another version of shared",)


def test_every_problem_of_every_module_at_once() -> None:
    problems = check_imports(
        {"a": module("gone", "kobject_put"), "b": module(versions={})}, KERNEL
    )
    assert [problem[:2] for problem in problems] == ["a:", "a:", "b:"]
