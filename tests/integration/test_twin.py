"""The real driver for a kernel whose headers differ from another's in the release alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from modulus.host.survey import survey
from tests.integration.conftest import (
    PROFILES,
    Whole,
    build_on,
    build_whole,
)
from tests.support.packages import cache_folder
from tests.support.system import Node

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn", "driver")]

Kernels = dict[str, dict[str, list[str]]]
AGAIN = "only what carries that is made again"


def tree(release: str) -> Path:
    """The newest header tree that is recorded for a kernel."""
    records = [
        (record["created"], path.parent / "tree")
        for path in cache_folder().glob("headers/*/record.json")
        if (record := json.loads(path.read_text()))["release"] == release
    ]
    return max(records)[1]


def put_profile(node: Node) -> None:
    """Has a node use again what it keeps of the small driver."""
    profile = yaml.safe_load((PROFILES / "v4l2loopback.yaml").read_text())
    profile["remake"] = {"harmless": ["KERNELRELEASE|KERNEL_DIR"]}
    folder = node.path / "etc/modulus/profiles"
    folder.mkdir()
    (folder / "v4l2loopback.yaml").write_text(yaml.safe_dump(profile))


@pytest.fixture(scope="module")
def provisioned(
    tmp_path_factory: pytest.TempPathFactory, kernels: Kernels, instance: str
) -> list[str]:
    """Kernels of the stable series with headers at hand, newest first; a cloud kernel last."""
    releases = [*kernels["6.1"]["amd64"][:3], kernels["6.1"]["cloud-amd64"][0]]
    node = Node(tmp_path_factory.mktemp("small"), releases[0])
    node.run("build", instance, *(w for r in releases for w in ("--kernel", r)))
    return releases


@pytest.fixture(scope="module")
def twins(provisioned: list[str]) -> tuple[str, str]:
    """Two kernels, the older first."""
    for new, old in itertools.combinations(provisioned, 2):
        if survey(tree(new), new).digest == survey(tree(old), old).digest:
            return old, new
    pytest.skip("no two kernels of the archive have the same headers today")


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory,
    mirrors: list[Any],
    driver: str,
    twins: tuple[str, str],
) -> Node:
    """A node that has the driver for the older of the two."""
    node = Node(tmp_path_factory.mktemp("node"), twins[0], mirrors=mirrors)
    build_on(node, driver, twins[0])
    return node


def test_the_next_kernels_modules_are_those_of_a_whole_build(
    node: Node,
    driver: str,
    mirrors: list[Any],
    twins: tuple[str, str],
    whole: Whole,
    tmp_path: Path,
) -> None:
    new = twins[1]
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
    if whole.release != new:
        whole = build_whole(tmp_path / "whole", driver, new, mirrors=mirrors)
    assert whole.key == result["key"]
    assert len(node.digests(new)) == 5
    assert node.digests(new) == whole.digests
    assert node.leftovers() == []


def test_a_small_module_is_compiled_after_all_where_its_objects_are_damaged(
    twins: tuple[str, str], instance: str, tmp_path: Path
) -> None:
    old, new = twins
    nodes = [Node(tmp_path / name, old) for name in ("sound", "damaged")]
    for node in nodes:
        put_profile(node)
        assert node.run("build", instance).status == 0
    (kept,) = nodes[1].cache.glob("compiled/*/*/objects.tar.zst")
    kept.write_bytes(kept.read_bytes()[:-1])
    sound, damaged = (node.run("build", instance, "--kernel", new) for node in nodes)
    assert (sound.status, damaged.status) == (0, 0), sound.stderr + damaged.stderr
    assert AGAIN in sound.stderr
    assert "all is compiled after all" not in sound.stderr
    assert "all is compiled after all: the kept objects are damaged" in damaged.stderr
    assert nodes[0].digests(new) == nodes[1].digests(new)
    assert len(nodes[0].digests(new)) == 1
    # The damaged ones are gone, and sound ones in their place.
    (kept,) = nodes[1].cache.glob("compiled/*/*/objects.tar.zst")
