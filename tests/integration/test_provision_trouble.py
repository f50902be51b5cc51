"""Archives that mean harm or fail, networks that do, and what a killed run leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.errors import ToolchainError
from tests.support.aptworld import World
from tests.support.archive import Archive, SigningKey, add_headers, serving
from tests.support.headertrees import RELEASE, write

pytestmark = pytest.mark.integration


def test_tampered_packages_are_refused(with_headers: World) -> None:
    world = with_headers
    path = next((world.archive.folder / "pool").glob("linux-kbuild*.deb"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ToolchainError, match="cannot be downloaded"):
        world.provisioner().headers(RELEASE, world.reporter)
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
        world.provisioner().headers(RELEASE, world.reporter)
    assert "signed" in caught.value.hint
    assert world.server.debs() == []


def test_foreign_sources_are_not_asked(with_headers: World, tmp_path: Path) -> None:
    world = with_headers
    with serving(tmp_path / "foreign") as foreign:
        for number, options in enumerate(("trusted=yes", "signed-by=/etc/apt/keyrings/x.gpg")):
            write(
                world.root / f"etc/apt/sources.list.d/{number}.list",
                f"deb [{options}] {foreign.url}/{number} bookworm main\n",
            )
        world.provisioner().headers(RELEASE, world.reporter)
        assert foreign.requests == []


def test_a_foreign_source_that_fails_stops_nothing(with_headers: World) -> None:
    world = with_headers
    write(world.root / "etc/apt/sources.list", "deb http://127.0.0.2:9/x bookworm main\n")
    assert world.provisioner().headers(RELEASE, world.reporter).origin == "packages"
    assert "package lists are not complete" in world.said.getvalue()


def test_no_network(with_headers: World) -> None:
    world = with_headers
    write(
        world.root / "etc/apt/sources.list.d/own.sources",
        "Types: deb\nURIs: http://127.0.0.1:9\nSuites: bookworm\nComponents: main\n",
    )
    with pytest.raises(ToolchainError, match="Connection refused") as caught:
        world.provisioner().headers(RELEASE, world.reporter)
    assert "network" in caught.value.hint


def test_through_the_proxy(with_headers: World) -> None:
    world = with_headers
    write(
        world.root / "etc/apt/sources.list.d/own.sources",
        "Types: deb\nURIs: http://mirror.example.com\nSuites: bookworm\nComponents: main\n",
    )
    world.provisioner(proxy=world.server.url).headers(RELEASE, world.reporter)
    assert all(path.startswith("http://mirror.example.com/") for path in world.server.requests)
    assert len(world.server.debs()) == 3


def test_two_at_once_download_once(with_headers: World) -> None:
    world = with_headers
    world.server.delay = 0.3
    found: list[str] = []

    def provide() -> None:
        found.append(world.provisioner().headers(RELEASE, world.reporter).id)

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
Provisioner(Path(cache), Path(root), distribution, ()).headers(release, PlainReporter())
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
    headers = world.provisioner().headers(RELEASE, world.reporter)
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
            world.provisioner(cache=small).headers(RELEASE, world.reporter)
        assert "make room" in caught.value.hint
        assert list((small / "headers").glob("*")) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
