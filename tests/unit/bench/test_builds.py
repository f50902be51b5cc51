from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.builds import Spent, told
from tests.bench.measure import FailedError, Meter, sizes
from tests.bench.vendor import compilations, dkms_conf

TEMPLATE = """\
PACKAGE_VERSION="__VERSION_STRING"
MAKE[0]="'make' -j__JOBS NV_EXCLUDE_BUILD_MODULES='__EXCLUDE_MODULES' \
KERNEL_UNAME=${kernelver} modules"
__DKMS_MODULES
"""
OBJECT = """\
cmd_/w/nvidia/nv.o := gcc-12 -Wp,-MMD,/w/nvidia/.nv.o.d -DKBUILD_MODNAME='"nvidia"' \
-D'PRICE=$$1' -c -o /w/nvidia/nv.o /w/nvidia/nv.c   ; ./tools/objtool/objtool /w/nvidia/nv.o

source_/w/nvidia/nv.o := /w/nvidia/nv.c
"""


def test_the_compiler_alone_is_taken_off_kbuilds_record() -> None:
    (words,) = compilations([OBJECT])
    assert words[0] == "gcc-12"
    assert words[-1] == "/w/nvidia/nv.c"
    assert '-DKBUILD_MODNAME="nvidia"' in words
    assert "-DPRICE=$1" in words


@pytest.mark.parametrize(
    "record",
    [
        "cmd_/w/nvidia.o := ld -r -o /w/nvidia.o /w/nv.o\n",
        "cmd_/w/nvidia.mod.o := gcc-12 -c -o /w/nvidia.mod.o /w/nvidia.mod.c\n",
        "savedcmd_/w/blob.o := true /w/nv-kernel.o_binary\n",
        "",
    ],
)
def test_what_compiles_no_source_of_the_vendors_is_left_out(record: str) -> None:
    assert compilations([record]) == []


def test_dkms_conf_is_filled_in() -> None:
    text = dkms_conf(TEMPLATE, "1.2", 3, Path("/h"), ["nvidia", "nvidia-uvm"])
    headers = "SYSSRC=/h/source SYSOUT=/h/build"
    assert 'PACKAGE_VERSION="1.2"\n' in text
    assert f"\"'make' -j3 NV_EXCLUDE_BUILD_MODULES='' {headers} modules\"\n" in text
    assert 'BUILT_MODULE_NAME[1]="nvidia-uvm"\n' in text
    assert f"CLEAN=\"'make' {headers} clean\"\n" in text
    assert "__" not in text


def test_a_dkms_conf_of_another_kind_is_not_taken_for_filled_in() -> None:
    with pytest.raises(FailedError, match="__JOBS"):
        dkms_conf(TEMPLATE.replace("__JOBS", "2"), "1.2", 3, Path("/h"), ["nvidia"])


def test_provisioning_is_told_apart() -> None:
    spent = [Spent(8.0, 9.0, "twin"), Spent(7.0, 11.0, "twin"), Spent(9.0, 10.0, "together")]
    line = told(spent)
    assert "8.0 s of it" in line
    assert "10.0 s are the build (together, twin)" in line


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    meter = Meter(tmp_path / "log")
    with pytest.raises(FailedError, match=r"(?s)exit 3.* ended with 3:.*\nwhy$"):
        meter.run("sh", "-c", "echo why; exit 3")


def test_cpu_time_of_grandchildren_counts(tmp_path: Path) -> None:
    loop = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done"
    own = Meter(tmp_path / "log").run("sh", "-c", ":")
    cost = Meter(tmp_path / "log").run("sh", "-c", f"sh -c '{loop}'; :")
    assert cost.cpu > own.cpu


def test_a_file_of_two_names_is_weighed_once(tmp_path: Path) -> None:
    for folder in ("builds", "blobs"):
        (tmp_path / folder / "x").mkdir(parents=True)
    (tmp_path / "builds/x/a").write_bytes(bytes(100))
    os.link(tmp_path / "builds/x/a", tmp_path / "builds/x/b")
    (tmp_path / "builds/c").symlink_to("x/a")
    (tmp_path / "blobs/x/d").write_bytes(bytes(7))
    assert sizes(tmp_path) == {"blobs": 7, "builds": 100 + len("x/a")}


def test_a_lock_is_held_in_a_measurement_and_those_within_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    meter = Meter(tmp_path / "log", lock)
    asks = ["flock", "--nonblock", str(lock), "true"]
    with meter.alone():
        meter.run("true")
        with pytest.raises(FailedError):
            meter.run(*asks)
    meter.work(*asks)
