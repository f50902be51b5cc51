"""Toolchain roots: what is done to unpacked packages, and how a recorded root is found."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest

from modulus.core.distribution import DEBIAN, Distribution
from modulus.core.kernel import Compiler
from modulus.errors import ToolchainError
from modulus.host.provision import Provisioner
from modulus.host.report import PlainReporter
from modulus.host.toolroot import finish
from tests.support.headertrees import link, write

GCC = Compiler("gcc", "gcc-12", "12.2.0")


def unpacked(root: Path) -> Path:
    """What packages of a release whose /bin and /lib were moved below /usr unpack to."""
    write(root / "bin/bash", "bash\n", 0o755)
    link(root / "bin/sh", "dash")
    write(root / "usr/bin/dash", "dash\n", 0o755)
    write(root / "usr/bin/mawk", "mawk\n", 0o755)
    write(root / "usr/bin/su", "su\n", 0o4755)
    write(root / "usr/bin/wall", "wall\n", 0o2755)
    write(root / "bin/touch", "touch\n", 0o755)
    link(root / "usr/bin/touch", "/bin/touch")
    link(root / "bin/real", "/usr/bin/real")
    write(root / "usr/bin/real", "real\n", 0o755)
    write(root / "lib/x86_64-linux-gnu/libc.so.6", "libc\n")
    write(root / "usr/lib/x86_64-linux-gnu/libz.so.1", "libz\n")
    link(root / "lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld.so")
    link(root / "sbin", "usr/sbin")
    write(root / "usr/sbin/ldconfig", "ldconfig\n", 0o755)
    write(root / "usr/share/man/man1/x.1")
    return root


def test_merged_usr(tmp_path: Path) -> None:
    root = unpacked(tmp_path)
    finish(root)
    for name in ("bin", "sbin", "lib", "lib64"):
        assert os.readlink(root / name) == f"usr/{name}"
    assert not os.path.lexists(root / "libx32")
    for name in ("bash", "touch", "real", "sh"):
        assert (root / "usr/bin" / name).is_file()
        assert (root / "bin" / name).read_text().strip() in (name, "dash")
    assert {path.name for path in (root / "usr/lib/x86_64-linux-gnu").iterdir()} == {
        *("libc.so.6", "libz.so.1"),
    }


def test_ready_for_a_build(tmp_path: Path) -> None:
    root = unpacked(tmp_path)
    finish(root)
    assert os.readlink(root / "usr/bin/awk") == "mawk"
    assert not os.path.lexists(root / "usr/bin/which")
    assert "build:x:1000:1000:" in (root / "etc/passwd").read_text()
    for name in ("usr/src/linux", "src", "out", "build", "proc", "dev"):
        assert list((root / name).iterdir()) == []
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o755
    # What podman mounts on.
    for name in ("etc/hostname", "etc/hosts", "etc/resolv.conf", "run/.containerenv"):
        assert (root / name).read_bytes() == b""
    assert not (root / "usr/share/man").exists()


def test_nothing_runs_as_somebody_else(tmp_path: Path) -> None:
    root = unpacked(tmp_path)
    (root / "var/tmp").mkdir(parents=True)
    (root / "var/tmp").chmod(0o1777)
    write(root / "usr/share/open", "", 0o666)
    finish(root)
    for path in root.rglob("*"):
        assert path.is_symlink() or not path.stat().st_mode & 0o002
    assert stat.S_IMODE((root / "usr/bin/su").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "usr/bin/wall").stat().st_mode) == 0o755


def provisioner(base: Path, distribution: Distribution | None) -> Provisioner:
    reporter = PlainReporter(io.StringIO())
    return Provisioner(
        base / "cache", base / "root", distribution, [base / "store"], reporter, offline=True
    )


def recorded(entry: Path, name: str, created: str) -> None:
    write(entry / "root/usr/bin/make")
    record = {
        "schema": 1,
        "id": entry.name,
        "found_by": [name],
        "cc": "gcc-12",
        "packages": {"gcc-12": {"version": "12.2.0-14", "sha256": "0"}},
        "created": created,
    }
    write(entry / "record.json", json.dumps(record))


def test_a_recorded_root(tmp_path: Path) -> None:
    name = "2/debian/bookworm/amd64/gcc-12"
    recorded(tmp_path / "store/toolchains/stored", name, "2024-01-03T00:00:00Z")
    bookworm = Distribution(DEBIAN, "bookworm", "amd64")
    found = provisioner(tmp_path, bookworm).toolchain_recorded(GCC)
    assert found is not None
    assert (found.id, found.cc, found.packages) == ("stored", "gcc-12", {"gcc-12": "12.2.0-14"})
    assert found.root == tmp_path / "store/toolchains/stored/root"
    # The newest of the node's own comes before any store's.
    recorded(tmp_path / "cache/toolchains/older", name, "2024-01-01T00:00:00Z")
    recorded(tmp_path / "cache/toolchains/newer", name, "2024-01-02T00:00:00Z")
    found = provisioner(tmp_path, bookworm).toolchain(GCC)
    assert found.id == "newer"


@pytest.mark.parametrize(
    ("codename", "arch", "compiler"),
    [
        ("trixie", "amd64", GCC),
        ("bookworm", "arm64", GCC),
        ("bookworm", "amd64", Compiler("gcc", "gcc-11", "11.3.0")),
    ],
)
def test_a_root_for_another_purpose(
    tmp_path: Path, codename: str, arch: str, compiler: Compiler
) -> None:
    name = "2/debian/bookworm/amd64/gcc-12"
    recorded(tmp_path / "cache/toolchains/a", name, "2024-01-03T00:00:00Z")
    other = provisioner(tmp_path, Distribution(DEBIAN, codename, arch))
    assert other.toolchain_recorded(compiler) is None
    with pytest.raises(ToolchainError, match="offline"):
        other.toolchain(compiler)


def test_unknown_distribution(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="gcc-12 cannot be had") as caught:
        provisioner(tmp_path, None).toolchain(GCC)
    assert "build.container" in caught.value.hint
