"""Taking over what a build left: hostile files are refused, and cost little."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.build.recipe import Recipe
from modulus.errors import BuildError
from modulus.host.build import module_check as modules
from modulus.host.build.module_check import Module, check_modules
from modulus.host.files.data import FileData
from modulus.host.files.regular import open_regular
from tests.support.elfmaker import kernel_module

RELEASE = "6.1.0-9-test"
RECIPE = Recipe(modules=("x",), release=RELEASE, arch="x86_64", cc="gcc-12", jobs=1)
MODINFO = {"vermagic": f"{RELEASE} SMP ", "name": "x", "license": "GPL"}
GOOD = kernel_module(modinfo=MODINFO)
_SYMTAB = 2
_SIZE = 300 << 20


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def inspect(out: Path, *names: str) -> tuple[Module, ...]:
    recipe = replace(RECIPE, modules=names or RECIPE.modules)
    return check_modules(recipe, {}, out, srcversion=False)


def test_what_is_taken_over_is_ours_alone(out: Path) -> None:
    (out / "x.ko").write_bytes(GOOD)
    (out / "x.ko").chmod(0o4777)
    out.chmod(0o777)
    assert [(module.name, module.size) for module in inspect(out)] == [("x", len(GOOD))]
    assert stat.S_IMODE((out / "x.ko").stat().st_mode) == 0o644
    assert stat.S_IMODE(out.stat().st_mode) == 0o755


def test_nothing_is_done_through_a_link(out: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(GOOD)
    secret.chmod(0o600)
    (out / "x.ko").symlink_to(secret)
    with pytest.raises(BuildError, match="x: is no regular file"):
        inspect(out)
    (out / "x.ko").unlink()
    (out / "x.ko").hardlink_to(secret)
    with pytest.raises(BuildError, match="x: has other names as well"):
        inspect(out)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_nothing_is_waited_for(out: Path) -> None:
    os.mkfifo(out / "x.ko")
    with pytest.raises(BuildError, match="x: is no regular file"):
        inspect(out)
    (out / "x.ko").unlink()
    (out / "x.ko").mkdir()
    with pytest.raises(BuildError, match="x: is no regular file"):
        inspect(out)


def test_limits_come_before_anything_is_read(out: Path) -> None:
    (out / "x.ko").write_bytes(GOOD)
    os.truncate(out / "x.ko", (1 << 30) + 1)
    with pytest.raises(BuildError, match="x: is larger than 1 GiB"):
        inspect(out)
    (out / "x.ko").write_bytes(GOOD)
    for name in "abcde":
        (out / name).touch()
        os.truncate(out / name, 900 << 20)
    with pytest.raises(BuildError, match="left 4 GiB of results, more than 4"):
        inspect(out)


def test_as_much_is_told_as_can_be_read(out: Path) -> None:
    names = ["\x1b[31m\n" + "x" * 400, *(f"gone{number}" for number in range(1000))]
    (out / "x.ko").write_bytes(kernel_module(modinfo=MODINFO, undefined=names))
    with pytest.raises(BuildError, match="; and 81 more") as caught:
        inspect(out, "x", *map(str, range(100)))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < modules._SHOWN * (modules._LONGEST + 10)


def _enlarged(kind: int | None, name: bytes) -> bytes:
    """A module whose section of that type, or name, is said to be all of a large file."""
    data = bytearray(kernel_module(modinfo=MODINFO, undefined=["a"], versions={"a": 1}))
    (headers,) = struct.unpack_from("<Q", data, 40)
    count, names = struct.unpack_from("<HH", data, 60)
    (strings,) = struct.unpack_from("<Q", data, headers + 64 * names + 24)
    for at in range(headers, headers + 64 * count, 64):
        text, of = struct.unpack_from("<II", data, at)
        if of == kind or data[strings + text :].startswith(name + b"\0"):
            struct.pack_into("<QQ", data, at + 24, 0, _SIZE - _SIZE % 192)
    return bytes(data)


def _full() -> bytes:
    """About as much as a module may have of everything."""
    long = [f"{number:05d}" + "x" * 480 for number in range(32_000)]
    return kernel_module(
        modinfo=[*MODINFO.items(), *((f"k{number}", "v") for number in range(100_000))],
        undefined=long,
        versions={name[:50]: 1 for name in long},
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_enlarged(_SYMTAB, b".symtab"), id="symbols"),
        pytest.param(_enlarged(None, b".strtab"), id="strings"),
        pytest.param(_enlarged(None, b".shstrtab"), id="names"),
        pytest.param(_enlarged(None, b"__versions"), id="versions"),
        pytest.param(_enlarged(None, b".modinfo"), id="info"),
        pytest.param(None, id="all there may be"),
    ],
)
def test_a_large_module_takes_little_memory(out: Path, data: bytes | None) -> None:
    (out / "x.ko").write_bytes(_full() if data is None else data)
    os.truncate(out / "x.ko", _SIZE)
    script = f"""
import re, sys
from pathlib import Path
from modulus.core.build.recipe import Recipe
from modulus.errors import BuildError
from modulus.host.build.module_check import check_modules
try:
    check_modules({RECIPE!r}, {{}}, Path(sys.argv[1]), srcversion=False)
except BuildError:
    # Not getrusage(2), whose peak begins with that of the process that forked this one.
    print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""
    done = subprocess.run(
        (sys.executable, "-c", script, out), capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200, "MiB"


def test_an_open_file_slices_like_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    with open_regular(tmp_path / "file") as file:
        data = FileData(file)
        assert len(data) == 100
        for start, stop in ((0, 5), (7, 7), (90, 200), (300, 400), (9, 3)):
            assert data[start:stop] == bytes(range(100))[start:stop]
        os.truncate(tmp_path / "file", 10)
        assert data[5:50] == bytes(range(5, 10))
