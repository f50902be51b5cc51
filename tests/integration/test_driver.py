"""The real driver: fetched from a mirror, compiled for a real kernel, put in place."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Whole
from tests.support import packages
from tests.support.kernels import Kernels
from tests.support.mirror import Mirror
from tests.support.system import Done, Node

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn", "driver")]

MODULES = {"nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm", "nvidia-peermem"}
MOST_MEMORY = 80 * 1024  # KiB, of the Python process


@pytest.fixture(scope="module")
def release(whole: Whole) -> str:
    return whole.release


@pytest.fixture(scope="module")
def node(whole: Whole) -> Node:
    return whole.node


@pytest.fixture(scope="module")
def built(whole: Whole) -> Done:
    return whole.done


def modinfo(path: Path, field: str) -> str:
    return subprocess.run(
        ["/sbin/modinfo", "-F", field, path], check=True, capture_output=True, text=True
    ).stdout.strip()


def sections(path: Path) -> str:
    return subprocess.run(
        ["readelf", "-SW", path], check=True, capture_output=True, text=True
    ).stdout


def test_compiles_five_modules_that_the_kernel_takes(
    built: Done, node: Node, driver: str, release: str
) -> None:
    (result,) = built.json["results"]
    assert result["kernel"] == release
    assert not result["hit"]
    assert result["error"] is None
    modules = node.modules(release)
    assert {path.stem for path in modules.values()} == MODULES
    for path in modules.values():
        assert modinfo(path, "vermagic").split()[0] == release
        assert modinfo(path, "version") == driver
        assert ".debug_" not in sections(path)
    assert modules["nvidia-uvm.ko"].stat().st_size < 6e6
    manifest = json.loads(Path(result["path"], "manifest.json").read_text())
    assert manifest["key"] == result["key"]
    assert {file["path"] for file in manifest["files"]} == modules.keys()
    assert Path(result["path"], "build.log").stat().st_size > 10_000


def test_tells_progress_with_time_left(built: Done) -> None:
    lines = re.findall(r"^build: (\d+) % \((\d+)/(\d+)\)", built.stderr, re.MULTILINE)
    assert len(lines) >= 3
    assert len({total for _, _, total in lines}) == 1
    assert [int(done) for _, done, _ in lines] == sorted(int(done) for _, done, _ in lines)
    assert re.search(r"^build: .*, \d+:\d\d left$", built.stderr, re.MULTILINE)


def test_stays_small(built: Done) -> None:
    assert 0 < built.peak < MOST_MEMORY


def test_leaves_nothing_behind(built: Done, node: Node) -> None:
    assert built.status == 0
    assert node.leftovers() == []


def test_a_second_build_is_a_hit_and_says_so(
    built: Done, node: Node, driver: str, release: str, vendor: Mirror
) -> None:
    asked = len(vendor.requests)
    again = node.run("build", f"nvidia-{driver}")
    key = built.json["results"][0]["key"][:12]
    assert again.status == 0
    assert again.stdout == f"hit: nvidia-{driver} for {release} ({key})\n"
    assert len(vendor.requests) == asked


def test_the_plan_names_what_would_change(
    built: Done, node: Node, driver: str, release: str
) -> None:
    plan = node.run("plan", f"nvidia-{driver}", "--json")
    assert plan.json["hit"]
    assert plan.json["key"] == built.json["results"][0]["key"]
    other = node.run("plan", f"nvidia-{driver}", "--kernel", "6.1.0-1-amd64", "--json").json
    assert not other["hit"]
    assert other["key"] is None
    assert {"input": "kernel", "old": release, "new": "6.1.0-1-amd64"} in other["miss"]


def test_up_puts_the_driver_in_place(
    built: Done, node: Node, driver: str, release: str
) -> None:
    assert built.status == 0
    done = node.run("up", f"nvidia-{driver}", "--no-load")
    assert done.status == 0, done.stderr
    assert done.peak < MOST_MEMORY
    link = node.path / "opt/drivers/nvidia"
    assert not link.readlink().is_absolute()
    assert (link / "bin/nvidia-smi").stat().st_mode & 0o7777 == 0o755
    assert (link / "lib/libnvidia-ml.so.1").resolve().name == f"libnvidia-ml.so.{driver}"
    assert (link / "lib/libcuda.so.1").exists()
    assert list((link / f"firmware/nvidia/{driver}").glob("gsp_*.bin"))
    assert {path.stem for path in (link / "lib/modules" / release).glob("*.ko")} == MODULES
    stored = node.modules(release)["nvidia.ko"]
    installed = link / "lib/modules" / release / "nvidia.ko"
    assert installed.read_bytes() == stored.read_bytes()
    assert installed.stat().st_nlink == 1
    assert (node.path / "var/lib/modulus/nvidia/selected").read_text() == f"nvidia-{driver}\n"
    cached = subprocess.run(
        ["/sbin/ldconfig", "-r", node.path, "-p"], check=True, capture_output=True, text=True
    ).stdout
    assert "/opt/drivers/nvidia/lib/libcuda.so.1" in cached
    again = node.run("up", f"nvidia-{driver}", "--no-load")
    assert again.status == 0
    assert "unchanged: " in again.stdout
    assert node.leftovers() == []


def test_extract_writes_checked_modules(
    built: Done, node: Node, release: str, tmp_path: Path
) -> None:
    key = built.json["results"][0]["key"]
    done = node.run("cache", "extract", key[:12], str(tmp_path / "out"))
    assert done.status == 0, done.stderr
    for name, path in node.modules(release).items():
        assert (tmp_path / "out" / name).read_bytes() == path.read_bytes()


def test_a_realtime_kernel_is_refused_before_any_download_once_its_headers_are_known(
    kernels: Kernels, driver: str, mirrors: list[Any], tmp_path: Path
) -> None:
    release = kernels.newest("rt-amd64")
    node = Node(tmp_path / "node", release, mirrors=mirrors)
    for _ in range(2):
        # Where the headers are to be fetched first, the package is fetched beside them.
        shutil.rmtree(node.cache / "downloads", ignore_errors=True)
        done = node.run("build", f"nvidia-{driver}", "--json")
        assert done.status == 15, done.stderr
        assert "PREEMPT_RT" in done.json["error"]["message"]
        assert "modulus: hint: " in done.stderr
    assert not (node.cache / "downloads").exists()


def test_a_version_nobody_has_cannot_be_fetched(
    release: str, mirrors: list[Any], tmp_path: Path
) -> None:
    node = Node(tmp_path / "node", release, mirrors=mirrors, checksums={"x": "0" * 64})
    done = node.run("build", "nvidia-1.2.3", "--set", "network_wait=0")
    assert done.status == 11, done.stderr
    assert re.search(r"^modulus: error: .*404", done.stderr, re.MULTILINE)


def test_the_open_flavour(opened: Whole) -> None:
    module = opened.node.modules(opened.release)["nvidia.ko"]
    assert modinfo(module, "license") == "Dual MIT/GPL"
    (result,) = opened.done.json["results"]
    manifest = json.loads(Path(result["path"], "manifest.json").read_text())
    assert manifest["flavour"] == "open"


def test_packages_are_current(driver: str) -> None:
    assert packages.candidate("nvidia-kernel-source").startswith(driver)


def test_the_readmes_commands_work(built: Done, node: Node, driver: str) -> None:
    assert built.status == 0
    small = packages.candidate("v4l2loopback-dkms").partition("-")[0]
    readme = Path(__file__).parents[2].joinpath("README.md").read_text()
    commands = re.findall(r"^\.venv/bin/modulus (.+)$", readme, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        current = re.sub(r"\bnvidia-[\d.]+", f"nvidia-{driver}", command)
        current = re.sub(r"\bv4l2loopback-[\d.]+", f"v4l2loopback-{small}", current)
        done = node.run(*shlex.split(current))
        assert done.status == 0, f"{current}: {done.stderr}"
