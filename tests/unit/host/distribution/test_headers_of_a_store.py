"""A store that was filled where the kernel's headers are installed serves others, too."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN, Distribution
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.report.reporter import PlainReporter
from tests.support import headertrees
from tests.support.headertrees import RELEASE, write

TRIXIE = Distribution(DEBIAN, "trixie", "amd64")
STATUS = "/var/lib/dpkg/status"
HEADERS, IMAGE = f"linux-headers-{RELEASE}", f"linux-image-{RELEASE}"


def stanza(package: str, state: str, version: str) -> str:
    return f"Package: {package}\nStatus: install ok {state}\nVersion: {version}\n\n"


def filled(
    folder: Path, status: str, distribution: Distribution | None = TRIXIE
) -> Provisioner:
    """What provides on a node whose store a builder with its own header tree has filled."""
    builder, node = folder / "builder", folder / "node"
    if not (builder / "lib/modules").exists():
        headertrees.debian(builder)
    write(builder / STATUS.lstrip("/"), status)
    reporter = PlainReporter(io.StringIO())
    cache = folder / "store"
    Provisioner(cache, builder, distribution, [], offline=True).headers(RELEASE, reporter)
    return Provisioner(folder / "cache", node, TRIXIE, [cache], offline=True)


@pytest.mark.parametrize(
    ("image", "is_found"),
    [
        ("", True),
        (stanza(IMAGE, "unpacked", "6.12.1-1"), True),
        (stanza(IMAGE, "installed", "6.12.1-1"), True),
        (stanza(IMAGE, "installed", "6.12.1-2"), False),
    ],
)
def test_it_is_found_by_its_packages_version(
    tmp_path: Path, image: str, is_found: bool
) -> None:
    node = filled(tmp_path, stanza(HEADERS, "installed", "6.12.1-1"))
    write(tmp_path / "node" / STATUS.lstrip("/"), image)
    assert (node.headers_recorded(RELEASE) is not None) is is_found


@pytest.mark.parametrize(
    ("status", "distribution"),
    [("", TRIXIE), (stanza(HEADERS, "half-installed", "6.12.1-1"), TRIXIE),
     (stanza(HEADERS, "installed", "6.12.1-1"), None)],
)  # fmt: skip
def test_a_tree_of_no_package_is_not(
    tmp_path: Path, status: str, distribution: Distribution | None
) -> None:
    assert filled(tmp_path, status, distribution).headers_recorded(RELEASE) is None


def test_nor_is_one_in_another_place_than_the_packages(tmp_path: Path) -> None:
    builder = tmp_path / "builder"
    headertrees.single(builder)
    assert not (builder / f"usr/src/{HEADERS}").exists()
    node = filled(tmp_path, stanza(HEADERS, "installed", "6.12.1-1"))
    assert node.headers_recorded(RELEASE) is None
