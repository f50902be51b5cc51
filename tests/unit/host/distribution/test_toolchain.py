"""Toolchain roots: what is done to unpacked packages, and how a recorded root is found."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN, UBUNTU, Distribution
from modulus.core.kernel.release import Compiler
from modulus.errors import ToolchainError
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.distribution.tool_root import finish
from tests.support.fakedriver import store_entry
from tests.support.headertrees import link, write
from tests.support.quiet import QUIET

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
    (root / "var/local").mkdir(parents=True)
    (root / "var/local").chmod(0o2775)
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
    assert stat.S_IMODE((root / "var/local").stat().st_mode) == 0o755


def provisioner(base: Path, distribution: Distribution | None) -> Provisioner:
    return Provisioner(
        base / "cache", base / "root", distribution, [base / "store"], offline=True
    )


NAME = "debian/bookworm/amd64/gcc-12"
BOOKWORM = Distribution(DEBIAN, "bookworm", "amd64")


def recorded(cache: Path, content: str, day: int = 1) -> Path:
    """A toolchain in ``cache``; its entry."""
    return store_entry(
        cache / "toolchains",
        {"root/usr/bin/make": content},
        found_by=[NAME],
        cc="gcc-12",
        packages={"gcc-12": {"version": "12.2.0-14", "sha256": "0"}},
        created=f"2024-01-{day:02}T00:00:00Z",
    )


def test_a_recorded_root(tmp_path: Path) -> None:
    stored = recorded(tmp_path / "store", "stored", 3)
    found = provisioner(tmp_path, BOOKWORM).toolchain_recorded(GCC)
    assert found is not None
    assert (found.id, found.cc, found.packages) == (
        *(stored.name, "gcc-12", {"gcc-12": "12.2.0-14"}),
    )
    assert found.root == stored / "root"
    # The newest of the node's own comes before any store's.
    recorded(tmp_path / "cache", "older", 1)
    newer = recorded(tmp_path / "cache", "newer", 2)
    assert provisioner(tmp_path, BOOKWORM).toolchain(GCC, QUIET).id == newer.name


def test_the_release_befores_compiler_serves_its_kernels(tmp_path: Path) -> None:
    """After an upgrade of the distribution, until there is one of its own."""
    trixie = provisioner(tmp_path, Distribution(DEBIAN, "trixie", "amd64"))
    before = recorded(tmp_path / "store", "before")
    assert (found := trixie.toolchain_recorded(GCC)) and found.id == before.name
    own = store_entry(
        tmp_path / "cache/toolchains",
        {"root/usr/bin/make": "own"},
        found_by=[NAME.replace("bookworm", "trixie")],
        cc="gcc-12",
        packages={},
    )
    assert (found := trixie.toolchain_recorded(GCC)) and found.id == own.name
    with_linker = replace(GCC, linker="ld.lld-16")
    assert trixie.toolchain_recorded(with_linker) is None
    for other in (Distribution(UBUNTU, "jammy", "amd64"), Distribution(DEBIAN, "x", "arm64")):
        assert provisioner(tmp_path, other).toolchain_recorded(GCC) is None


def change(entry: Path) -> None:
    """One letter of a file, of the same size, that nobody notices by size or time."""
    make = entry / "root/usr/bin/make"
    before = make.stat()
    make.write_text(make.read_text()[:-1] + "?")
    os.utime(make, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_root_that_changed_is_not_used(tmp_path: Path) -> None:
    good = recorded(tmp_path / "store", "stored", 1)
    bad = recorded(tmp_path / "store", "bad", 2)
    own = recorded(tmp_path / "cache", "own")
    for entry in (bad, own):
        change(entry)
    provider = provisioner(tmp_path, BOOKWORM)
    assert provider.toolchain(GCC, QUIET).id == good.name
    # Our own is set aside, what is in a store is left as it is.
    assert bad.is_dir() and not own.is_dir()
    assert [path.name.partition(".")[0] for path in (tmp_path / "cache/bad").iterdir()] == [
        own.name
    ]
    change(good)
    with pytest.raises(ToolchainError, match="offline"):
        provisioner(tmp_path, BOOKWORM).toolchain(GCC, QUIET)


@pytest.mark.parametrize(
    ("codename", "arch", "compiler"),
    [
        ("bookworm", "arm64", GCC),
        ("bookworm", "amd64", Compiler("gcc", "gcc-11", "11.3.0")),
    ],
)
def test_a_root_for_another_purpose(
    tmp_path: Path, codename: str, arch: str, compiler: Compiler
) -> None:
    recorded(tmp_path / "cache", "gcc-12")
    other = provisioner(tmp_path, Distribution(DEBIAN, codename, arch))
    assert other.toolchain_recorded(compiler) is None
    with pytest.raises(ToolchainError, match="offline"):
        other.toolchain(compiler, QUIET)


def test_unknown_distribution(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="gcc-12 cannot be had") as caught:
        provisioner(tmp_path, None).toolchain(GCC, QUIET)
    assert "build.container" in caught.value.hint
