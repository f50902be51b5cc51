"""Distributions as values."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.distribution.families import (
    DEBIAN,
    UBUNTU,
    Archive,
    Distribution,
    Family,
    identify,
)
from modulus.core.distribution.os_release import parse_os_release
from modulus.core.kernel.release import Compiler

BOOKWORM = Distribution(DEBIAN, "bookworm", "amd64")
PRO = UBUNTU.archive_at("esm.ubuntu.com")
JAMMY = Distribution(UBUNTU, "jammy", "amd64")


def test_os_release() -> None:
    text = (
        "# c\nID=debian\nPRETTY_NAME=\"Debian 'x'\"\nBROKEN=\"a\nlower=no\nEMPTY=\nNAME='a b'\n"
    )
    assert parse_os_release(text) == {
        "ID": "debian",
        "PRETTY_NAME": "Debian 'x'",
        "EMPTY": "",
        "NAME": "a b",
    }


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"))))
def test_os_release_values_come_back(value: str) -> None:
    assert parse_os_release(f"NAME={shlex.quote(value)}\n") == {"NAME": value}


@given(st.text())
def test_any_os_release_parses(text: str) -> None:
    assert all(name.isascii() for name in parse_os_release(text))


@pytest.mark.parametrize(
    ("identity", "codename", "machine", "expected"),
    [
        ("debian", "bookworm", "x86_64", BOOKWORM),
        ("ubuntu", "jammy", "aarch64", Distribution(UBUNTU, "jammy", "arm64")),
        ("flatcar", "bookworm", "x86_64", None),
        ("debian", "", "x86_64", None),
        ("debian", "../x", "x86_64", None),
        ("debian", "bookworm", "riscv64", None),
    ],
)
def test_identify(
    identity: str, codename: str, machine: str, expected: Distribution | None
) -> None:
    assert identify({"ID": identity, "VERSION_CODENAME": codename}, machine) == expected


@pytest.mark.parametrize(
    ("archive", "signed_by", "own"),
    [
        (DEBIAN.archive, "/usr/share/keyrings/debian-archive-keyring.gpg", True),
        (DEBIAN.archive, "/usr/share/keyrings/debian-archive-keyring.pgp", True),
        (DEBIAN.archive, "/usr/share/keyrings/nodesource.gpg", False),
        (
            DEBIAN.archive,
            "/usr/share/keyrings/debian-archive-keyring.gpg, /etc/apt/keyrings/x.gpg",
            False,
        ),
        (DEBIAN.archive, "-----BEGIN PGP PUBLIC KEY BLOCK-----", False),
        (DEBIAN.archive, "", False),
        (DEBIAN.archive, "/usr/share/keyrings/debian-archive-/../x.gpg", False),
        (DEBIAN.archive, "/usr/share/keyrings/debian-archive-x/y.gpg", False),
        (UBUNTU.archive, "/usr/share/keyrings/ubuntu-pro-esm-infra.gpg", False),
        (PRO, "/usr/share/keyrings/ubuntu-pro-esm-infra.gpg", True),
        (PRO, "/usr/share/keyrings/ubuntu-archive-keyring.gpg", False),
        (UBUNTU.archive, "/usr/share/keyrings/ubuntu-archive-keyring.gpg", True),
        (UBUNTU.archive, "/usr/share/keyrings/debian-archive-keyring.gpg", False),
    ],
)
def test_own_keys(archive: Archive, signed_by: str, own: bool) -> None:
    assert archive.is_own_key(signed_by) is own


@pytest.mark.parametrize(
    ("package", "release"),
    [
        ("linux-headers-6.1.0-56-amd64", "6.1.0-56-amd64"),
        ("linux-headers-6.12.117+deb12-cloud-amd64", "6.12.117+deb12-cloud-amd64"),
        ("linux-headers-5.15.0-91-generic", "5.15.0-91-generic"),
        ("linux-headers-6.1.0-56-common", None),
        ("linux-headers-6.1.0-56-common-rt", None),
        ("linux-headers-5.15.0-91", None),
        ("linux-headers-amd64", None),
        ("linux-headers-6.12-amd64", None),
        ("linux-image-6.1.0-56-amd64", None),
    ],
)
def test_releases_of_packages(package: str, release: str | None) -> None:
    assert BOOKWORM.release_of(package) == release
    if release:
        assert BOOKWORM.headers_package(release) == package


@pytest.mark.parametrize(
    ("family", "package", "wanted"),
    [
        (DEBIAN, "linux-headers-6.1.0-56-common", True),
        (DEBIAN, "linux-headers-6.1.0-56-common-rt", True),
        (DEBIAN, "linux-kbuild-6.12.117+deb12", True),
        (DEBIAN, "linux-image-6.12.117+deb12-amd64", False),
        (DEBIAN, "linux-compiler-gcc-12-x86", False),
        (DEBIAN, "gcc-12", False),
        (UBUNTU, "linux-headers-5.15.0-91", True),
        (UBUNTU, "linux-hwe-6.5-headers-6.5.0-14", True),
        (UBUNTU, "linux-aws-headers-6.8.0-1015", True),
        (UBUNTU, "libc6", False),
        (UBUNTU, "linux-image-5.15.0-91-generic", False),
    ],
)
def test_what_completes_headers(family: Family, package: str, wanted: bool) -> None:
    assert bool(family.headers_depends.fullmatch(package)) is wanted


def test_compiler_packages() -> None:
    assert BOOKWORM.compiler_packages(Compiler("gcc", "gcc-12", "12.2.0")) == ("gcc-12",)
    assert BOOKWORM.compiler_packages(Compiler("clang", "clang-14", "14.0.6")) == (
        *("clang-14", "lld-14", "llvm-14"),
    )
    with_lld = Compiler("gcc", "gcc-12", "12.2.0", "ld.lld-16")
    assert BOOKWORM.compiler_packages(with_lld) == ("gcc-12", "lld-16")


def test_image_packages() -> None:
    assert JAMMY.image_packages("5.15.0-91-generic") == (
        *("linux-image-5.15.0-91-generic", "linux-image-unsigned-5.15.0-91-generic"),
    )
