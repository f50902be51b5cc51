"""What a node is, read below a fake root."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN, Distribution
from modulus.core.pci import PciDevice
from modulus.host.distribution.dpkg_status import installed_versions
from modulus.host.files.paths import inside, resolve
from modulus.host.kernel.probe import installed_kernels, probe
from tests.support.headertrees import link, write

STATUS = """\
Package: linux-image-6.1.0-9-amd64
Status: install ok installed
Version: 6.1.27-1

Package: removed
Status: deinstall ok config-files
Version: 1

Package: last
Status: install ok installed
Description: x
 Package: folded
Version: 2:3-4"""


def node(root: Path) -> Path:
    write(root / "proc/sys/kernel/osrelease", "6.1.0-9-amd64\n")
    write(root / "proc/sys/kernel/arch", "aarch64\n")
    write(root / "usr/lib/os-release", 'ID=debian\nVERSION_CODENAME="bookworm"\n')
    link(root / "etc/os-release", "/usr/lib/os-release")
    link(root / "lib", "/usr/lib")
    for release in ("6.1.0-10-amd64", "6.1.0-9-amd64"):
        write(root / f"usr/lib/modules/{release}/modules.builtin")
    write(root / "usr/lib/modules/5.10.0-1-amd64/updates/left.ko")
    device = root / "sys/devices/pci0000:00/0000:00:05.0"
    for name, text in (("vendor", "0x10de"), ("device", "0x20b0"), ("class", "0x030200")):
        write(device / name, f"{text}\n")
    link(root / "sys/bus/pci/devices/0000:00:05.0", "../../../devices/pci0000:00/0000:00:05.0")
    write(root / "sys/bus/pci/devices/0000:00:06.0/vendor", "broken\n")
    return root


def test_node(tmp_path: Path) -> None:
    found = probe(node(tmp_path))
    assert found.running == "6.1.0-9-amd64"
    assert found.machine == "aarch64"
    assert found.kernels == ("6.1.0-9-amd64", "6.1.0-10-amd64")
    assert found.distribution == Distribution(DEBIAN, "bookworm", "arm64")
    assert found.pci == (PciDevice("0000:00:05.0", 0x10DE, 0x20B0, 0x030200),)


def test_empty_root(tmp_path: Path) -> None:
    found = probe(tmp_path)
    assert (found.running, found.kernels, found.pci, found.distribution) == (None, (), (), None)
    assert found.machine
    assert installed_kernels(tmp_path / "nothing") == ()


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/plain/file", "plain/file"),
        ("plain/../../file", "file"),
        ("/absolute/x", "there/x"),
        ("/up/x", "there/x"),
        ("/chain/x", "there/x"),
        ("/folder/back", "there"),
        ("/", ""),
    ],
)
def test_paths_stay_below_the_root(tmp_path: Path, path: str, target: str) -> None:
    link(tmp_path / "absolute", "/there")
    link(tmp_path / "up", "../../../../there")
    link(tmp_path / "chain", "./absolute/.")
    link(tmp_path / "folder/back", "../absolute")
    resolved = resolve(tmp_path, path)
    assert resolved == tmp_path / target
    assert inside(tmp_path, resolved) == f"/{target}"


def test_links_in_a_circle(tmp_path: Path) -> None:
    link(tmp_path / "a", "b")
    link(tmp_path / "b", "a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        resolve(tmp_path, "/a/x")
    assert caught.value.errno == errno.ELOOP


def test_installed_versions(tmp_path: Path) -> None:
    write(tmp_path / "var/lib/dpkg/status", STATUS)
    names = ["linux-image-6.1.0-9-amd64", "removed", "last", "folded", "linux-image-6.1.0-9"]
    assert installed_versions(tmp_path, names) == {
        "linux-image-6.1.0-9-amd64": "6.1.27-1",
        "last": "2:3-4",
    }
    assert installed_versions(tmp_path / "nothing", names) == {}
