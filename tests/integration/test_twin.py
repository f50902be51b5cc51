"""Drivers for a kernel whose headers differ from another's in the release alone, or in more.

Which of an archive's kernels are alike changes with each update of it, so the older ones are
made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import PROFILES, Whole, build_on
from tests.support.kernels import Kernels, make_kernel
from tests.support.system import Done, Node

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn", "driver")]

AGAIN = "only what carries that is made again"


@pytest.fixture(scope="module")
def new(kernels: Kernels) -> str:
    """The newest kernel of the stable series."""
    return kernels.newest()


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory, new: str) -> str:
    """A kernel with the same headers, but for the release."""
    return made(tmp_path_factory.mktemp("twin"), new, f"{new}-twin")


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory, new: str) -> str:
    """A kernel with other headers: a struct has one more member."""
    return made(tmp_path_factory.mktemp("wider"), new, f"{new}-wider", wider=True)


def made(folder: Path, release: str, name: str, **how: bool) -> str:
    """A kernel whose headers all nodes find."""
    node = Node(folder / "node")
    make_kernel(node.cache, release, name, **how)
    node.share()
    return name


def small_node(path: Path, release: str) -> Node:
    """A node that uses again what it keeps of the small driver."""
    node = Node(path, release)
    profile = yaml.safe_load((PROFILES / "v4l2loopback.yaml").read_text())
    profile["remake"] = {"harmless": ["KERNELRELEASE|KERNEL_DIR"]}
    folder = node.path / "etc/modulus/profiles"
    folder.mkdir()
    (folder / "v4l2loopback.yaml").write_text(yaml.safe_dump(profile))
    return node


def built(node: Node, instance: str, release: str) -> Done:
    done = node.run("build", instance, "--kernel", release)
    assert done.status == 0, done.stderr
    return done


def test_the_next_kernels_modules_are_those_of_a_whole_build(
    driver: str, mirrors: list[Any], twin: str, new: str, whole: Whole, tmp_path: Path
) -> None:
    # In another root, and with other jobs at once: the key is the same, and so are the bits.
    node = Node(tmp_path / "an/other/node", twin, mirrors=mirrors, build={"jobs": 3})
    build_on(node, driver, twin)
    plan = node.run("plan", f"nvidia-{driver}", "--kernel", new)
    assert AGAIN in plan.stdout
    done = node.run("build", f"nvidia-{driver}", "--kernel", new, "--json")
    assert done.status == 0, done.stderr
    assert AGAIN in done.stderr
    assert "all is compiled" not in done.stderr
    (result,) = done.json["results"]
    log = Path(result["path"], "build.log").read_text()
    compiled = [line for line in log.splitlines() if line.startswith("  CC [M] ")]
    assert [line for line in compiled if "nvidia-uvm/" in line] == []
    assert (whole.release, whole.key) == (new, result["key"])
    assert len(node.digests(new)) == 5
    assert node.digests(new) == whole.digests
    assert node.leftovers() == []


def test_headers_that_come_with_the_build_are_looked_at_too(
    twin: str, new: str, instance: str, tmp_path: Path
) -> None:
    """As on a node that gets its next kernel: nobody has seen its headers before."""
    node = small_node(tmp_path / "node", twin)
    built(node, instance, twin)
    for tree in (node.cache / "headers").iterdir():
        if twin not in str(json.loads((tree / "record.json").read_text())["found_by"]):
            tree.unlink()
    done = built(node, instance, new)
    assert "provision: downloading " in done.stderr
    assert AGAIN in done.stderr


def test_a_small_module_is_compiled_after_all_where_its_objects_are_damaged(
    twin: str, new: str, instance: str, tmp_path: Path
) -> None:
    nodes = [small_node(tmp_path / name, twin) for name in ("sound", "damaged")]
    for node in nodes:
        built(node, instance, twin)
    (kept,) = nodes[1].cache.glob("compiled/*/*/objects.tar.zst")
    kept.write_bytes(kept.read_bytes()[:-1])
    sound, damaged = (built(node, instance, new) for node in nodes)
    assert AGAIN in sound.stderr
    assert "all is compiled after all" not in sound.stderr
    assert "all is compiled after all: the kept objects are damaged" in damaged.stderr
    assert nodes[0].digests(new) == nodes[1].digests(new)
    assert len(nodes[0].digests(new)) == 1
    # The damaged ones are gone, and sound ones in their place.
    (kept,) = nodes[1].cache.glob("compiled/*/*/objects.tar.zst")


def test_with_other_headers_all_is_compiled(
    wider: str, new: str, instance: str, tmp_path: Path
) -> None:
    node, fresh = (small_node(tmp_path / name, new) for name in ("node", "fresh"))
    built(node, instance, wider)
    done = built(node, instance, new)
    assert (
        f"all is compiled: other headers than those of {wider}: 1 file of the headers differs "
        "(source/include/linux/device.h)" in done.stderr
    )
    built(fresh, instance, new)
    assert node.digests(new) == fresh.digests(new)


@pytest.mark.full
def test_each_kernel_of_the_archive_gets_what_a_node_without_the_one_before_makes(
    kernels: Kernels, instance: str, tmp_path: Path
) -> None:
    oldest, *others = reversed(kernels.of())
    node = small_node(tmp_path / "node", oldest)
    built(node, instance, oldest)
    for release in others:
        built(node, instance, release)
        fresh = small_node(tmp_path / release, release)
        built(fresh, instance, release)
        assert node.digests(release) == fresh.digests(release)
