"""What tests take for the distribution's kernels and drivers, whatever an archive has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kernels import grouped
from tests.support.packages import UnavailableError
from tests.support.runfile import renumber

FLAVOURS = ("amd64", "cloud-amd64", "rt-amd64")


def headers(*numbers: str) -> list[str]:
    """The names of header packages, and of what is none of a kernel."""
    named = [f"linux-headers-{number}-{each}" for number in numbers for each in FLAVOURS]
    others = [f"linux-headers-{number}-common{rt}" for number in numbers for rt in ("", "-rt")]
    return [*named, *others, "linux-headers-amd64", "linux-headers-rt-amd64"]


def test_two_series_newest_first() -> None:
    numbers = ("6.1.0-9", "6.12.9+deb12", "6.1.0-100", "6.12.117+deb12", "6.1.0-57")
    found = grouped("6.1", headers(*numbers))
    assert found.of() == ["6.1.0-100-amd64", "6.1.0-57-amd64", "6.1.0-9-amd64"]
    assert found.newest("cloud-amd64") == "6.1.0-100-cloud-amd64"
    assert found.others("rt-amd64") == ["6.12.117+deb12-rt-amd64"]


def test_one_series() -> None:
    found = grouped("6.12", headers("6.12.115+deb13", "6.12.115+deb13.1", "6.12.99+deb13"))
    assert found.newest() == "6.12.115+deb13.1-amd64"
    assert found.of()[-1] == "6.12.99+deb13-amd64"
    assert found.others() == []


def test_a_flavour_that_is_gone_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"no kernel 6\.1 of flavour rt-amd64"):
        grouped("6.1", ["linux-headers-6.1.0-57-amd64"]).newest("rt-amd64")


def test_a_driver_under_another_number(tmp_path: Path) -> None:
    library = tmp_path / "lib/libx.so.1.02"
    library.parent.mkdir()
    library.write_bytes(b"\0version 1.02\0")
    library.with_name("libx.so.1").symlink_to("libx.so.1.02")
    (tmp_path / "firmware-1.02").mkdir()
    (tmp_path / "firmware-1.02/gsp.bin").write_bytes(b"1.020")
    renumber(tmp_path, "1.02", "1.03")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert names == [
        "firmware-1.03",
        "firmware-1.03/gsp.bin",
        "lib",
        "lib/libx.so.1",
        "lib/libx.so.1.03",
    ]
    assert (tmp_path / "lib/libx.so.1").read_bytes() == b"\0version 1.03\0"
