"""Headers and toolchains by the real apt: from an archive of our own, with faults, and from
the distribution's."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN, UBUNTU, Distribution, Family
from modulus.core.kernel.release import Compiler
from modulus.errors import FetchError, ToolchainError
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.kernel.probe import probe
from modulus.host.report.reporter import PlainReporter
from tests.support import headertrees
from tests.support.archive import Archive, Server, SigningKey, add_headers, add_tools, serving
from tests.support.headertrees import RELEASE, write
from tests.support.kernels import FLAVOURS, Kernels

pytestmark = pytest.mark.integration

GCC = Compiler("gcc", "gcc-12", "12.2.0")


@pytest.fixture(scope="module")
def key() -> Iterator[SigningKey]:
    key = SigningKey()
    yield key
    key.close()


@dataclass
class World:
    """A fake node and the archive its apt sources name."""

    base: Path
    archive: Archive
    server: Server
    distribution: Distribution
    said: io.StringIO = field(default_factory=io.StringIO)

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def cache(self) -> Path:
        return self.root / "var/cache/modulus"

    def provisioner(
        self, *, proxy: str | None = None, offline: bool = False, cache: Path | None = None
    ) -> Provisioner:
        return Provisioner(
            cache or self.cache,
            self.root,
            self.distribution,
            (),
            PlainReporter(self.said),
            proxy=proxy,
            offline=offline,
        )

    def left(self, kind: str) -> list[str]:
        """The entries of ``kind``, hidden ones included."""
        return sorted(path.name for path in (self.cache / kind).glob("*"))


def make_world(
    base: Path, key: SigningKey, server: Server, family: Family, codename: str
) -> World:
    distribution = Distribution(family, codename, "amd64")
    world = World(base, Archive(base / "archive", codename, key), server, distribution)
    key.public(Path(f"{world.root}{family.keyrings[0]}"))
    sources = "etc/apt/sources.list.d/own.sources"
    write(
        world.root / sources,
        f"Types: deb\nURIs: {server.url}\nSuites: {codename}\nComponents: main\n",
    )
    return world


@pytest.fixture
def world(tmp_path: Path, key: SigningKey) -> Iterator[World]:
    with serving(tmp_path / "archive") as server:
        yield make_world(tmp_path, key, server, DEBIAN, "bookworm")


@pytest.fixture
def with_headers(world: World) -> World:
    add_headers(world.archive, world.base / "made")
    world.archive.publish()
    return world


def install_image(world: World, version: str) -> None:
    write(
        world.root / "var/lib/dpkg/status",
        f"Package: linux-image-{RELEASE}\nStatus: install ok installed\nVersion: {version}\n",
    )


def test_headers_from_packages(with_headers: World) -> None:
    world = with_headers
    headers = world.provisioner().headers(RELEASE)
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
    assert world.provisioner().headers(RELEASE) == headers
    assert world.provisioner(offline=True).headers_recorded(RELEASE) == headers
    assert world.server.requests == []


def test_a_store_filled_elsewhere_serves_a_node_with_the_kernel(with_headers: World) -> None:
    """A fleet's store is filled on a machine on which its kernels are not installed."""
    world = with_headers
    headers = world.provisioner().headers(RELEASE)
    install_image(world, "6.1.27-1")
    assert world.provisioner(offline=True).headers_recorded(RELEASE) == headers
    install_image(world, "6.1.26-1")
    assert world.provisioner(offline=True).headers_recorded(RELEASE) is None


def test_the_nodes_own_tree_is_the_same_as_the_packages(with_headers: World) -> None:
    world = with_headers
    from_packages = world.provisioner().headers(RELEASE)
    for path in (world.archive.folder / "pool").glob("linux-[hk]*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(path), str(world.root)], check=True)
    assert world.provisioner().headers_recorded(RELEASE) is None
    own = world.provisioner().headers(RELEASE)
    assert own.id == from_packages.id
    assert world.left("headers") == [own.id]


def test_make_works_in_the_normal_form(with_headers: World) -> None:
    headers = with_headers.provisioner().headers(RELEASE)
    command = ["make", "-s", "-C", str(headers.path / "build")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"source {headers.path}/build\n"


def test_headers_of_the_installed_image(with_headers: World) -> None:
    """A kernel updated under the same name wants headers that the lists at hand lack."""
    world = with_headers
    first = world.provisioner().headers(RELEASE)
    add_headers(world.archive, world.base / "made", "6.1.27-2")
    world.archive.publish()
    install_image(world, "6.1.27-2")
    second = world.provisioner().headers(RELEASE)
    assert second.id != first.id
    assert (second.path / "build/include/version.h").read_text() == "6.1.27-2"


def test_headers_of_an_image_that_the_archive_lost(with_headers: World) -> None:
    world = with_headers
    install_image(world, "6.1.20-1")
    headers = world.provisioner().headers(RELEASE)
    assert f"headers of {RELEASE} are of 6.1.27-1" in world.said.getvalue()
    assert world.provisioner().headers_recorded(RELEASE) == headers


def test_stale_lists_are_updated_once(with_headers: World) -> None:
    world = with_headers
    with pytest.raises(FetchError):
        world.provisioner().source_package("no-such-package", "1")
    add_headers(world.archive, world.base / "made", "6.1.27-2")
    world.archive.publish()
    world.server.requests.clear()
    headers = world.provisioner().headers(RELEASE)
    assert (headers.path / "build/include/version.h").read_text() == "6.1.27-2"
    assert len([path for path in world.server.requests if path.endswith("InRelease")]) == 1


def test_no_such_kernel_names_near_ones(with_headers: World) -> None:
    with pytest.raises(ToolchainError, match=r"no headers of kernel 6\.1\.0-7-amd64") as caught:
        with_headers.provisioner().headers("6.1.0-7-amd64")
    assert caught.value.hint == f"there are headers of {RELEASE}"
    assert with_headers.left("headers") == []


def test_tampered_packages_are_refused(with_headers: World) -> None:
    world = with_headers
    path = next((world.archive.folder / "pool").glob("linux-kbuild*.deb"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ToolchainError, match="cannot be downloaded"):
        world.provisioner().headers(RELEASE)
    assert world.left("headers") == []


def test_another_key_is_refused(with_headers: World) -> None:
    world = with_headers
    stranger = SigningKey()
    try:
        Archive(world.archive.folder, "bookworm", stranger).publish()
        add_headers(world.archive, world.base / "again")
        world.archive.publish()
        stranger.sign(
            world.archive.folder / "dists/bookworm/Release",
            world.archive.folder / "dists/bookworm/InRelease",
        )
    finally:
        stranger.close()
    with pytest.raises(ToolchainError) as caught:
        world.provisioner().headers(RELEASE)
    assert "signed" in caught.value.hint
    assert world.server.debs() == []


def test_foreign_sources_are_not_asked(with_headers: World, tmp_path: Path) -> None:
    world = with_headers
    with serving(tmp_path / "foreign") as foreign:
        for number, options in enumerate(("trusted=yes", "signed-by=/etc/apt/keyrings/x.gpg")):
            write(
                world.root / f"etc/apt/sources.list.d/{number}.list",
                f"deb [{options}] {foreign.url} bookworm main\n",
            )
        world.provisioner().headers(RELEASE)
        assert foreign.requests == []


def test_a_foreign_source_that_fails_stops_nothing(with_headers: World) -> None:
    world = with_headers
    write(world.root / "etc/apt/sources.list", "deb http://127.0.0.2:9/x bookworm main\n")
    assert world.provisioner().headers(RELEASE).origin == "packages"
    assert "package lists are not complete" in world.said.getvalue()


def test_no_network(with_headers: World) -> None:
    world = with_headers
    write(
        world.root / "etc/apt/sources.list.d/own.sources",
        "Types: deb\nURIs: http://127.0.0.1:9\nSuites: bookworm\nComponents: main\n",
    )
    with pytest.raises(ToolchainError, match="Connection refused") as caught:
        world.provisioner().headers(RELEASE)
    assert "network" in caught.value.hint


def test_through_the_proxy(with_headers: World) -> None:
    world = with_headers
    write(
        world.root / "etc/apt/sources.list.d/own.sources",
        "Types: deb\nURIs: http://mirror.example.com\nSuites: bookworm\nComponents: main\n",
    )
    world.provisioner(proxy=world.server.url).headers(RELEASE)
    assert all(path.startswith("http://mirror.example.com/") for path in world.server.requests)
    assert len(world.server.debs()) == 3


def test_two_at_once_download_once(with_headers: World) -> None:
    world = with_headers
    world.server.delay = 0.3
    found: list[str] = []

    def provide() -> None:
        found.append(world.provisioner().headers(RELEASE).id)

    threads = [threading.Thread(target=provide) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(world.server.debs()) == 3


PROVIDE = """
import sys
from pathlib import Path
from modulus.core.distribution.families import DEBIAN, Distribution
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.report.reporter import PlainReporter
cache, root, release = sys.argv[1:]
distribution = Distribution(DEBIAN, "bookworm", "amd64")
Provisioner(Path(cache), Path(root), distribution, (), PlainReporter()).headers(release)
"""


def test_killed_while_downloading(with_headers: World) -> None:
    world = with_headers
    world.server.delay = 30
    arguments = [str(world.cache), str(world.root), RELEASE]
    process = subprocess.Popen(
        [sys.executable, "-c", PROVIDE, *arguments], stderr=subprocess.DEVNULL
    )
    _until(lambda: bool(world.server.debs()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    _until(lambda: not _running_with(str(world.cache)))
    assert any((world.cache / "headers").glob(".new.*"))
    world.server.delay = 0
    headers = world.provisioner().headers(RELEASE)
    assert [path.name for path in (world.cache / "headers").iterdir()] == [headers.id]


def _running_with(text: str) -> list[int]:
    """The processes whose environment or command names ``text``, but for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in told:
            found.append(int(folder.name))
    return found


def _until(done: Callable[[], bool]) -> None:
    for _ in range(200):
        if done():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within ten seconds")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs")
def test_full_disk(with_headers: World) -> None:
    world = with_headers
    small = world.base / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)]
    subprocess.run(mount, check=True)
    try:
        with pytest.raises(ToolchainError) as caught:
            world.provisioner(cache=small).headers(RELEASE)
        assert "make room" in caught.value.hint
        assert list((small / "headers").glob("*")) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_toolchain(world: World) -> None:
    add_tools(world.archive, world.base / "made", (*DEBIAN.tools, "libc6-alike"))
    world.archive.add("gcc-11")
    world.archive.publish()
    with pytest.raises(ToolchainError, match="no gcc-12, which the kernel was built") as caught:
        world.provisioner().toolchain(GCC)
    assert "gcc-11" in caught.value.hint
    assert world.left("toolchains") == []
    world.archive.add("gcc-12", depends="libc6-alike")
    world.archive.publish()
    toolchain = world.provisioner().toolchain(GCC)
    assert toolchain.cc == "gcc-12"
    assert toolchain.packages["gcc-12"] == "1.0-1"
    # Names that only other releases have are alternatives; dependencies come along.
    assert {"libelf1", "libssl1.1", "dwarves", "libc6-alike"} <= toolchain.packages.keys()
    assert (toolchain.root / "bin/program-gcc-12").exists() is False
    assert (toolchain.root / "bin/make").is_file()
    world.server.requests.clear()
    assert world.provisioner(offline=True).toolchain(GCC) == toolchain
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
        headers = world.provisioner().headers("5.15.0-91-generic")
        assert (headers.path / "build/include/linux/module.h").is_file()
        assert world.provisioner().toolchain(GCC).packages["gcc-12"] == "1.0-1"


def test_source_package(world: World) -> None:
    path = world.archive.add("v4l2loopback-dkms", "0.12.7-2")
    data = path.read_bytes()
    world.archive.publish()
    found = world.provisioner().source_package("v4l2loopback-dkms", "0.12.7")
    assert found.version == "0.12.7-2"
    assert found.path == world.cache / "downloads" / found.sha256
    assert found.path.read_bytes() == data
    world.server.requests.clear()
    again = world.provisioner(offline=True).source_package("v4l2loopback-dkms", "0.12.7")
    assert again == found
    assert world.server.requests == []
    found.path.write_bytes(b"damaged")
    assert world.provisioner().source_package("v4l2loopback-dkms", "0.12.7") == found
    assert found.path.read_bytes() == data
    with pytest.raises(FetchError, match=r"of version 0\.13") as caught:
        world.provisioner().source_package("v4l2loopback-dkms", "0.13")
    assert "0.12.7-2" in caught.value.hint


# From here on the distribution's real archive.

HELLO = """\
#include <linux/module.h>
static int hello(void) { return 0; }
module_init(hello); MODULE_LICENSE("GPL");
"""


@dataclass(frozen=True)
class Real:
    """The distribution's archive."""

    cache: Path
    provisioner: Provisioner

    def downloaded(self) -> dict[str, int]:
        """When each of apt's files changed."""
        return {str(path): path.stat().st_mtime_ns for path in (self.cache / "apt").rglob("*")}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    distribution = probe(Path("/")).distribution
    if (
        distribution is None
        or distribution.family is not DEBIAN
        or distribution.arch != "amd64"
    ):
        pytest.skip("takes Debian's kernels by their names on amd64")
    base = tmp_path_factory.mktemp("real")
    reporter = PlainReporter()
    provisioner = Provisioner(base / "cache", base / "root", distribution, (), reporter)
    with pytest.raises(ToolchainError) as caught:
        provisioner.headers("0.0.0-0-amd64")
    assert "there are headers of" in caught.value.hint
    return Real(base / "cache", provisioner)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_real_headers(real: Real, kernels: Kernels, flavour: str) -> None:
    for release in (kernels.newest(flavour), *kernels.others(flavour)):
        assert_headers(real, release, flavour)


def assert_headers(real: Real, release: str, flavour: str) -> None:
    headers = real.provisioner.headers(release)
    assert headers.config.compiler.kind == "gcc"
    assert headers.config.enabled("PREEMPT_RT") is flavour.startswith("rt-")
    assert headers.config.enabled("VIDEO_DEV") is not flavour.startswith("cloud-")
    for path in headers.path.rglob("*"):
        if path.is_symlink():
            assert path.resolve().is_relative_to(headers.path)
    before = real.downloaded()
    assert real.provisioner.headers(release) == headers
    assert real.downloaded() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root")
def test_a_real_module_compiles(real: Real, kernels: Kernels, tmp_path: Path) -> None:
    for release in (kernels.newest(), *kernels.others()):
        folder = tmp_path / release
        folder.mkdir()
        assert_compiles(real, release, folder)


def assert_compiles(real: Real, release: str, folder: Path) -> None:
    headers = real.provisioner.headers(release)
    toolchain = real.provisioner.toolchain(headers.config.compiler)
    before = real.downloaded()
    assert real.provisioner.toolchain(headers.config.compiler) == toolchain
    assert real.downloaded() == before
    write(folder / "hello.c", HELLO)
    write(folder / "Makefile", "obj-m := hello.o\n")
    command = [
        *("systemd-nspawn", "-q", "--as-pid2", "--register=no", "--keep-unit", "--pipe"),
        *("--read-only", "--private-network", "--timezone=off", "--link-journal=no"),
        *("-D", str(toolchain.root)),
        *(f"--bind-ro={headers.path}:/usr/src/linux", f"--bind={folder}:/build"),
        *("make", "-C", "/usr/src/linux/build", "M=/build", f"CC={toolchain.cc}", "modules"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = subprocess.run(
        ["modinfo", "-F", "vermagic", str(folder / "hello.ko")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.split()[0] == release
