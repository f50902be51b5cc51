"""One module in every kind of build container.

Not all kinds run everywhere, so none of these is required to.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.core.ids import DEFAULT, PIECE, Ids
from tests.support.system import Node

pytestmark = pytest.mark.integration


def test_every_kind_of_container_and_all_ids_give_the_same_bits(
    node: Node, instance: str, tmp_path: Path
) -> None:
    release = (node.path / "proc/sys/kernel/osrelease").read_text().strip()
    assert node.run("build", instance, "--set", "build.container=nspawn").status == 0
    ids = Ids(DEFAULT.first + 7 * PIECE, DEFAULT.last)
    other = Node(tmp_path / "other", release, build={"container": "podman", "ids": str(ids)})
    done = other.run("build", instance, "--json")
    if done.status == 13:
        pytest.skip(f"podman cannot run here: {done.json['error']['message']}")
    assert done.status == 0, done.stderr
    first, second = (
        each.modules(release)["v4l2loopback.ko"].read_bytes() for each in (node, other)
    )
    assert first == second


def test_without_a_container_the_hosts_compiler_is_part_of_the_key(
    node: Node, instance: str
) -> None:
    done = node.run("build", instance, "--json", "--set", "build.container=none")
    if done.status == 13:
        pytest.skip(f"the host has no compiler: {done.json['error']['message']}")
    assert done.status == 0, done.stderr
    plan = node.run("plan", instance, "--json").json
    assert plan["key"] != done.json["results"][0]["key"]
    assert "toolchain" in {miss["input"] for miss in plan["miss"]}
