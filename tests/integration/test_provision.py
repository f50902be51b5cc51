"""Headers and toolchains by the real apt from an archive of our own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN, UBUNTU
from modulus.core.kernel.release import Compiler
from modulus.errors import FetchError, ToolchainError
from tests.support import headertrees
from tests.support.aptworld import World, install_image, make_world
from tests.support.archive import SigningKey, add_headers, add_tools, serving
from tests.support.headertrees import RELEASE

pytestmark = pytest.mark.integration

GCC = Compiler("gcc", "gcc-12", "12.2.0")


def test_headers_from_packages(with_headers: World) -> None:
    world = with_headers
    headers = world.provisioner().headers(RELEASE, world.reporter)
    assert headers.origin == "packages"
    assert headers.config.compiler == GCC
    # The image, which the headers name as well, is not fetched.
    assert sorted(world.server.debs()) == [
        "linux-headers-6.1.0-99-amd64_6.1.27-1_amd64.deb",
        "linux-headers-6.1.0-99-common_6.1.27-1_amd64.deb",
        "linux-kbuild-6.1_6.1.27-1_amd64.deb",
    ]
    assert world.left("headers") == [headers.id]
    assert not os.path.lexists("/modulus-ran-a-script")
    world.server.requests.clear()
    assert world.provisioner().headers(RELEASE, world.reporter) == headers
    assert world.provisioner(offline=True).headers_recorded(RELEASE) == headers
    assert world.server.requests == []


def test_a_store_filled_elsewhere_serves_a_node_with_the_kernel(with_headers: World) -> None:
    """A fleet's store is filled on a machine on which its kernels are not installed."""
    world = with_headers
    headers = world.provisioner().headers(RELEASE, world.reporter)
    install_image(world, "6.1.27-1")
    assert world.provisioner(offline=True).headers_recorded(RELEASE) == headers
    install_image(world, "6.1.26-1")
    assert world.provisioner(offline=True).headers_recorded(RELEASE) is None


def test_the_nodes_own_tree_is_the_same_as_the_packages(with_headers: World) -> None:
    world = with_headers
    from_packages = world.provisioner().headers(RELEASE, world.reporter)
    for path in (world.archive.folder / "pool").glob("linux-[hk]*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(path), str(world.root)], check=True)
    assert world.provisioner().headers_recorded(RELEASE) is None
    own = world.provisioner().headers(RELEASE, world.reporter)
    assert own.id == from_packages.id
    assert world.left("headers") == [own.id]


def test_make_works_in_the_normal_form(with_headers: World) -> None:
    headers = with_headers.provisioner().headers(RELEASE, with_headers.reporter)
    command = ["make", "-s", "-C", str(headers.path / "build")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"source {headers.path}/build\n"


def test_headers_of_the_installed_image(with_headers: World) -> None:
    """A kernel updated under the same name wants headers that the lists at hand lack."""
    world = with_headers
    first = world.provisioner().headers(RELEASE, world.reporter)
    add_headers(world.archive, world.base / "made", "6.1.27-2")
    world.archive.publish()
    install_image(world, "6.1.27-2")
    second = world.provisioner().headers(RELEASE, world.reporter)
    assert second.id != first.id
    assert (second.path / "build/include/version.h").read_text() == "6.1.27-2"


def test_headers_of_an_image_that_the_archive_lost(with_headers: World) -> None:
    world = with_headers
    install_image(world, "6.1.20-1")
    headers = world.provisioner().headers(RELEASE, world.reporter)
    assert f"headers of {RELEASE} are of 6.1.27-1" in world.said.getvalue()
    assert world.provisioner().headers_recorded(RELEASE) == headers


def test_stale_lists_are_updated_once(with_headers: World) -> None:
    world = with_headers
    with pytest.raises(FetchError):
        world.provisioner().source_package("no-such-package", "1", world.reporter)
    add_headers(world.archive, world.base / "made", "6.1.27-2")
    world.archive.publish()
    world.server.requests.clear()
    headers = world.provisioner().headers(RELEASE, world.reporter)
    assert (headers.path / "build/include/version.h").read_text() == "6.1.27-2"
    assert len([path for path in world.server.requests if path.endswith("InRelease")]) == 1


def test_no_such_kernel_names_near_ones(with_headers: World) -> None:
    with pytest.raises(ToolchainError, match=r"no headers of kernel 6\.1\.0-7-amd64") as caught:
        with_headers.provisioner().headers("6.1.0-7-amd64", with_headers.reporter)
    assert caught.value.hint == f"there are headers of {RELEASE}"
    assert with_headers.left("headers") == []


def test_toolchain(world: World) -> None:
    add_tools(world.archive, world.base / "made", (*DEBIAN.tools, "libc6-alike"))
    world.archive.add("gcc-11")
    world.archive.publish()
    with pytest.raises(ToolchainError, match="no gcc-12, which the kernel was built") as caught:
        world.provisioner().toolchain(GCC, world.reporter)
    assert "gcc-11" in caught.value.hint
    assert world.left("toolchains") == []
    world.archive.add("gcc-12", depends="libc6-alike")
    world.archive.publish()
    toolchain = world.provisioner().toolchain(GCC, world.reporter)
    assert toolchain.cc == "gcc-12"
    assert toolchain.packages["gcc-12"] == "1.0-1"
    # Names that only other releases have are alternatives; dependencies come along.
    assert {"libelf1", "libssl1.1", "dwarves", "libc6-alike"} <= toolchain.packages.keys()
    assert (toolchain.root / "bin/program-gcc-12").exists() is False
    assert (toolchain.root / "bin/make").is_file()
    world.server.requests.clear()
    assert world.provisioner(offline=True).toolchain(GCC, world.reporter) == toolchain
    assert world.server.requests == []


def test_ubuntu(tmp_path: Path, key: SigningKey) -> None:
    with serving(tmp_path / "archive") as server:
        world = make_world(tmp_path, key, server, UBUNTU, "jammy")
        headertrees.ubuntu(tmp_path / "made")
        source = tmp_path / "made/usr/src"
        for name in ("linux-headers-5.15.0-91", "linux-headers-5.15.0-91-generic"):
            (tmp_path / name / "usr/src").mkdir(parents=True)
            (source / name).rename(tmp_path / name / "usr/src" / name)
        flavour = tmp_path / "linux-headers-5.15.0-91-generic"
        (tmp_path / "made/lib").rename(flavour / "lib")
        world.archive.add(
            "linux-headers-5.15.0-91-generic",
            "5.15.0-91.101",
            depends="linux-headers-5.15.0-91, libc6 (>= 2.34)",
            tree=flavour,
        )
        common = tmp_path / "linux-headers-5.15.0-91"
        world.archive.add("linux-headers-5.15.0-91", "5.15.0-91.101", tree=common)
        add_tools(world.archive, tmp_path / "tools", (*UBUNTU.tools, "gcc-12"))
        world.archive.publish()
        headers = world.provisioner().headers("5.15.0-91-generic", world.reporter)
        assert (headers.path / "build/include/linux/module.h").is_file()
        assert world.provisioner().toolchain(GCC, world.reporter).packages["gcc-12"] == "1.0-1"


def test_source_package(world: World) -> None:
    path = world.archive.add("v4l2loopback-dkms", "0.12.7-2")
    data = path.read_bytes()
    world.archive.publish()
    found = world.provisioner().source_package("v4l2loopback-dkms", "0.12.7", world.reporter)
    assert found.version == "0.12.7-2"
    assert found.path == world.cache / "downloads" / found.sha256
    assert found.path.read_bytes() == data
    world.server.requests.clear()
    again = world.provisioner(offline=True).source_package(
        "v4l2loopback-dkms", "0.12.7", world.reporter
    )
    assert again == found
    assert world.server.requests == []
    found.path.write_bytes(b"damaged")
    assert (
        world.provisioner().source_package("v4l2loopback-dkms", "0.12.7", world.reporter)
        == found
    )
    assert found.path.read_bytes() == data
    with pytest.raises(FetchError, match=r"of version 0\.13") as caught:
        world.provisioner().source_package("v4l2loopback-dkms", "0.13", world.reporter)
    assert "0.12.7-2" in caught.value.hint
