"""v4l2loopback, a small real module: kernels that differ, accidents, many at once."""

from __future__ import annotations

import hashlib
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import packages
from tests.support.kernels import Kernels
from tests.support.system import Node, wait_gone

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn", "driver")]

STORE = [{"path": "/mnt/store", "trusted": True}]
"""Its header trees and toolchains are links, as those of all nodes of tests are."""

KILLS = 12


def test_builds_for_every_series_and_not_for_cloud_kernels(
    node: Node, kernels: Kernels, instance: str
) -> None:
    # Debian 13 has one series.
    old, new = kernels.newest(), [*kernels.others(), kernels.newest("rt-amd64")][0]
    cloud = kernels.newest("cloud-amd64")
    asked = [word for release in (old, cloud, new) for word in ("--kernel", release)]
    done = node.run("build", instance, "--json", *asked)
    assert done.status == 15, done.stderr
    first, refused, last = done.json["results"]
    for result, release in ((first, old), (last, new)):
        assert result["error"] is None
        module = node.modules(release)["v4l2loopback.ko"]
        vermagic = subprocess.run(
            ["/sbin/modinfo", "-F", "vermagic", module],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert vermagic.split()[0] == release
    assert refused["error"]["code"] == 15
    assert "CONFIG_VIDEO_DEV" in refused["error"]["message"]


def test_two_at_once_build_a_key_once(node: Node, instance: str) -> None:
    both = [node.start("build", instance) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(output.split(":")[0] for output in outputs) == ["built", "hit"]


def test_killed_anywhere_the_next_run_ends_right(node: Node, instance: str) -> None:
    link = node.path / "opt/drivers/v4l2loopback"
    assert node.run("up", instance, "--no-load").status == 0
    random.seed(0)
    started = time.monotonic()
    assert _up_again(node, instance) is None
    whole = time.monotonic() - started
    for _ in range(KILLS):
        _forget(node)
        process = node.start("up", instance, "--no-load")
        time.sleep(random.uniform(0, whole))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert wait_gone(str(node.path)) == []
        listed = node.run("cache", "list", "--json").json["entries"]
        assert all(entry["state"] == "good" for entry in listed)
        if link.is_symlink():
            assert (link / "generation.json").exists()
    assert _up_again(node, instance) is None
    assert node.leftovers() == []


def _forget(node: Node) -> None:
    """Has the next run do all of it again, but for headers and toolchain."""
    for folder in ("builds", "downloads", "sources"):
        subprocess.run(["rm", "-rf", node.cache / folder], check=True)


def _up_again(node: Node, instance: str) -> str | None:
    """Why ``up`` from nothing failed."""
    _forget(node)
    done = node.run("up", instance, "--no-load")
    whole = (node.path / "opt/drivers/v4l2loopback/generation.json").exists()
    return None if done.status == 0 and whole else done.stderr


def test_a_damaged_build_is_built_again(node: Node, instance: str) -> None:
    assert node.run("build", instance).status == 0
    (release,) = (path.name for path in (node.cache / "builds").iterdir())
    content = node.modules(release)["v4l2loopback.ko"].read_bytes()
    (held,) = node.cache.glob("objects/*")
    data = held.read_bytes()
    held.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = node.run("cache", "verify", "--json")
    assert done.status == 12
    assert [entry["state"] for entry in done.json["entries"]] == ["bad"]
    again = node.run("build", instance, "--json").json["results"][0]
    assert not again["hit"]
    assert node.modules(release)["v4l2loopback.ko"].read_bytes() == content


def test_a_read_only_store_serves_what_it_has(
    node: Node, instance: str, kernels: Kernels, tmp_path: Path
) -> None:
    assert node.run("build", instance).status == 0
    disk = tmp_path / "other/mnt/store"
    other = Node(tmp_path / "other", kernels.newest(), stores=STORE, offline=True)
    disk.parent.mkdir()
    node.cache.rename(disk)
    done = other.run("build", instance)
    assert done.stdout.startswith("hit: "), done.stderr


def test_a_bad_package_is_fetched_anew_once_it_is_mended(
    node: Node, instance: str, tmp_path: Path
) -> None:
    good = packages.download("v4l2loopback-dkms").read_bytes()
    published = tmp_path / "driver.deb"
    node.configure(mirrors=[published.as_uri()])

    def publish(content: bytes) -> None:
        published.write_bytes(content)
        line = f"{hashlib.sha256(content).hexdigest()}  {published.name}\n"
        published.with_name(f"{published.name}.sha256sum").write_text(line)

    publish(good[: len(good) // 2])
    failed = node.run("build", instance, "--json")
    assert failed.status == 12, failed.stderr
    assert published.name in failed.json["error"]["message"]
    publish(good)
    assert node.run("build", instance).status == 0


def test_a_reader_that_goes_away_ends_no_work(
    node: Node, instance: str, kernels: Kernels
) -> None:
    releases = (kernels.newest(), kernels.newest("rt-amd64"))
    asked = [word for release in releases for word in ("--kernel", release)]
    with node.start("build", instance, *asked) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    assert all(node.modules(release) for release in releases)


@pytest.fixture
def small_disk(node: Node) -> Iterator[Node]:
    """The node with a cache that has less room than a build has to leave."""
    builds = node.cache / "builds"
    builds.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=255m", "tmpfs", str(builds)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield node
    subprocess.run(["umount", builds], check=True)


def test_a_full_disk_fails_cleanly(small_disk: Node, instance: str) -> None:
    done = small_disk.run("build", instance, "--json")
    assert done.status == 14, done.stderr
    assert "less than 2 % or 256 MiB of the disk" in done.json["error"]["message"]
    assert small_disk.leftovers() == []
    assert small_disk.run("cache", "list", "--json").json["entries"] == []


def test_gc_keeps_what_is_active(node: Node, instance: str, kernels: Kernels) -> None:
    other = kernels.newest("rt-amd64")
    assert node.run("up", instance, "--no-load").status == 0
    assert node.run("build", instance, "--kernel", other).status == 0
    active = node.path / "opt/drivers/v4l2loopback/generation.json"
    active.write_text("{")  # What it says does not matter, that it is active does.
    done = node.run("cache", "gc", "--all", "--json")
    assert done.status == 0, done.stderr
    kept: list[dict[str, Any]] = node.run("cache", "list", "--json").json["entries"]
    assert [(entry["kernel"], entry["protected"]) for entry in kept] == [
        (kernels.newest(), True)
    ]
    assert not list((node.cache / "downloads").glob("*"))
    assert list((node.cache / "headers").glob("*"))


def test_a_failed_build_can_be_looked_at(node: Node, instance: str) -> None:
    shipped = Path(__file__).parents[2] / "profiles/v4l2loopback.yaml"
    own = node.path / "etc/modulus/profiles" / shipped.name
    own.parent.mkdir(parents=True)
    own.write_text(shipped.read_text().replace("KCFLAGS: -g0", "KCFLAGS: -g0 -Dvideo_device=3"))
    command = [sys.executable, "-m", "modulus", "build", instance, "--shell", "--root"]
    # script(1) gives it a terminal.
    done = subprocess.run(
        ["script", "-qec", shlex.join([*command, str(node.path)]), "/dev/null"],
        input="id -un; ls -d /build/*.c; exit\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 14, done.stdout
    lines = done.stdout.replace("\r", "").splitlines()
    assert "build" in lines
    assert "/build/v4l2loopback.c" in lines
    (log,) = node.cache.glob("builds/*/*.failed.log")
    assert "video_device" in log.read_text()
    assert node.leftovers() == []
