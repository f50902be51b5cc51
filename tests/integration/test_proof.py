"""Builds held to the vendor's own way in the field: right ones, and a fault in the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import PROFILES
from tests.support.kernels import Kernels
from tests.support.system import Done, Node

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn")]

KEY = 12

FAULT = r"""
# Alters one instruction of what was compiled together: something returns 1 instead of 0.
$(shell find .modulus-batch/sets -path '*/done/*.s' 2>/dev/null | xargs -r sed -i \
 '0,/^\txorl\t%eax, %eax$$/s//\tmovl\t$$1, %eax/')
"""


def put_profile(node: Node, fault: str = "") -> None:
    """The small driver, compiled together; with a ``fault`` in what only saves time."""
    profile = yaml.safe_load((PROFILES / "v4l2loopback.yaml").read_text())
    profile["make"]["batch"] = True
    folder = node.path / "etc/modulus/profiles"
    folder.mkdir(exist_ok=True)
    if fault:
        profile["files"] = [{"file": "fault.mk", "append_to": "Makefile", "shortcut": True}]
        (folder / "fault.mk").write_text(fault)
    (folder / "v4l2loopback.yaml").write_text(yaml.safe_dump(profile))


@pytest.fixture
def release(kernels: Kernels) -> str:
    return kernels.newest()


def build(node: Node, instance: str, *words: str) -> Any:
    done = node.run("build", instance, "--json", *words)
    assert done.status == 0, done.stderr
    (result,) = done.json["results"]
    return result


def entry(node: Node, key: str) -> Any:
    done = node.run("cache", "list", "--json")
    good = (one for one in done.json["entries"] if one["state"] == "good")
    (found,) = (one for one in good if one["key"] == key)
    return found


def bad(node: Node) -> list[Path]:
    return list((node.cache / "bad").glob("*/manifest.json"))


def test_what_is_right_is_proved_once(release: str, instance: str, tmp_path: Path) -> None:
    node = Node(tmp_path / "node", release)
    put_profile(node)
    key = build(node, instance)["key"]
    assert (entry(node, key)["made"], entry(node, key)["proof"]) == ("together", None)
    done = node.run("cache", "reproduce", key[:KEY], "--json")
    assert done.status == 0, done.stderr
    assert done.json["proofs"] == [{"key": key, "result": "equal", "error": None}]
    assert entry(node, key)["proof"] == "equal"
    # What was proved is not built again, whoever asks.
    assert node.run("cache", "reproduce", "--unproved", "--json").json["proofs"] == []
    done = node.run("build", instance, "--prove")
    assert (done.status, "built again" in done.stderr) == (0, False)
    assert node.leftovers() == []


def test_a_fault_in_the_batch_is_found_and_mended(
    release: str, instance: str, tmp_path: Path
) -> None:
    node = Node(tmp_path / "node", release)
    put_profile(node, FAULT)
    key = build(node, instance)["key"]
    wrong = node.digests(release)
    # As the agent has it done once the driver is ready.
    done = node.run("cache", "reproduce", "--unproved", "--idle", "--json")
    assert done.status == 12, done.stderr
    assert "v4l2loopback.o" in done.json["error"]["message"]
    assert done.json["error"]["hint"]
    check_mended(node, instance, release, key, wrong)
    # Again with the recipe that is known to be wrong: nothing is compiled together.
    build_dir = node.cache / "builds"
    for path in build_dir.rglob("manifest.json"):
        path.unlink()
    result = build(node, instance)
    assert result["key"] == key
    assert "compiled together" not in Path(result["path"], "build.log").read_text()
    assert entry(node, key)["made"] == "whole"


def check_mended(
    node: Node, instance: str, release: str, key: str, wrong: dict[str, str]
) -> None:
    """What is wrong is set aside, and what is right has its place and its key."""
    sound = Node(node.path.with_name("sound"), release)
    put_profile(sound)
    build(sound, instance)
    assert wrong != node.digests(release) == sound.digests(release)
    (aside,) = bad(node)
    assert json.loads(aside.read_text())["key"] == key
    assert entry(node, key)["made"] == "whole"
    assert node.leftovers() == []


def test_before_use_nothing_wrong_is_used(release: str, instance: str, tmp_path: Path) -> None:
    node = Node(tmp_path / "node", release, build={"prove": "before-use"})
    put_profile(node, FAULT)
    done: Done = node.run("build", instance, "--json")
    assert done.status == 0, done.stderr
    assert "was built wrong: without shortcuts" in done.stderr
    (result,) = done.json["results"]
    key = result["key"]
    assert entry(node, key)["made"] == "whole"
    assert len(bad(node)) == 1
    sound = Node(tmp_path / "sound", release)
    put_profile(sound)
    build(sound, instance)
    assert node.digests(release) == sound.digests(release)


def test_a_build_whose_inputs_are_gone_is_unproved(
    release: str, instance: str, tmp_path: Path
) -> None:
    node = Node(tmp_path / "node", release)
    put_profile(node)
    key = build(node, instance)["key"]
    (package,) = (node.cache / "downloads").glob("[0-9a-f]*")
    package.unlink()
    done = node.run("cache", "reproduce", "--all", "--json")
    assert done.status == 13
    assert (
        f"unproved: {key[:KEY]}: the package of {instance} is not in the cache"
        in (done.json["error"]["message"])
    )
    assert entry(node, key)["proof"] is None
    assert node.leftovers() == []
