"""Reading kernel modules."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.kernel.elf import read_module
from tests.support.elfmaker import AARCH64, kernel_module

_NAME = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=50)
_CRC = st.integers(0, 0xFFFFFFFF)


def test_what_the_loader_looks_at() -> None:
    module = read_module(
        kernel_module(
            modinfo=[
                ("license", "Dual MIT/GPL"),
                ("vermagic", "6.1.0-9-amd64 SMP "),
                ("alias", "pci:a*"),
                ("alias", "pci:b*"),
                ("parm", "a:b=c"),
            ],
            undefined=["_printk", "kfree"],
            weak=["maybe"],
            versions={"module_layout": 0x12345678, "_printk": 1, "kfree": 0xFFFFFFFF},
            exports={"mine": 0xCAFE, "bare": None},
            sections={".debug_info": b"x", ".text": b"\xc3"},
        )
    )
    assert module.machine == "x86_64"
    assert module.sections >= {".modinfo", ".debug_info", ".text", ".symtab"}
    assert module.modinfo["alias"] == ("pci:a*", "pci:b*")
    assert module.info("license") == "Dual MIT/GPL"
    assert module.info("vermagic") == "6.1.0-9-amd64 SMP "
    assert module.info("parm") == "a:b=c"
    assert module.info("srcversion") is None
    assert module.undefined == {"_printk", "kfree"}
    assert module.versions == {"module_layout": 0x12345678, "_printk": 1, "kfree": 0xFFFFFFFF}
    assert module.exports == {"mine": 0xCAFE, "bare": None}


def test_crcs_that_are_values_of_absolute_symbols() -> None:
    data = kernel_module(exports={"old": 0xDEADBEEF, "older": 7}, absolute_crcs=True)
    assert read_module(data).exports == {"old": 0xDEADBEEF, "older": 7}


def test_extended_versions_join_the_basic_ones() -> None:
    long = "a_symbol_whose_name_is_far_too_long_for_the_table_of_old_" + "x" * 40
    data = kernel_module(versions={"a": 1}, extended_versions={"a": 1, long: 0x80000000})
    assert read_module(data).versions == {"a": 1, long: 0x80000000}


@pytest.mark.parametrize(("number", "name"), [(AARCH64, "aarch64"), (243, "machine 243")])
def test_machine(number: int, name: str) -> None:
    assert read_module(kernel_module(machine=number)).machine == name


def test_reads_a_memory_map(tmp_path: Path) -> None:
    path = tmp_path / "a.ko"
    path.write_bytes(kernel_module(undefined=["x"]))
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        assert read_module(data).undefined == {"x"}


_GOOD = kernel_module(
    modinfo={"license": "GPL"}, undefined=["a"], versions={"a": 1}, exports={"b": 2}
)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "too short"),
        (b"!<arch>\n" + bytes(100), "not an ELF file"),
        (_GOOD[:4] + b"\x01" + _GOOD[5:], "not 64-bit little-endian"),
        (_GOOD[:5] + b"\x02" + _GOOD[6:], "not 64-bit little-endian"),
        (_GOOD[:16] + b"\x02" + _GOOD[17:], "not a relocatable"),
        (_GOOD[:-1], "cut short"),
        (_GOOD[:60] + bytes(4), "no usable section headers"),
        (kernel_module(sections={"__versions": b"x"}), "damaged __versions"),
        (kernel_module(sections={"__version_ext_crcs": b"xxxx"}), "damaged __version_ext"),
    ],
)
def test_refuses(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_module(data)


@given(st.data())
def test_damage_is_a_value_error_and_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(_GOOD)
    for at in data.draw(st.lists(st.integers(0, len(_GOOD) - 1), min_size=1, max_size=8)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        module = read_module(bytes(damaged))
    except ValueError:
        return
    assert isinstance(module.sections, frozenset)


@given(st.dictionaries(_NAME, _CRC), st.dictionaries(_NAME, _CRC), st.sets(_NAME))
def test_what_was_written_is_read(
    versions: dict[str, int], exports: dict[str, int], undefined: set[str]
) -> None:
    module = read_module(kernel_module(versions=versions, exports=exports, undefined=undefined))
    assert module.versions == versions
    assert module.exports == exports
    assert module.undefined == undefined
