"""The vendor's tests of the kernel and objects, compiled together, beside the vendor's way."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import vendor_path
from tests.support import runfile
from tests.support.mirror import Mirror
from tests.support.system import Node

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn", "driver")]

PROFILE = Path(__file__).parents[2] / "profiles/nvidia.yaml"
Kernels = dict[str, dict[str, list[str]]]


def build(node: Node, instance: str, release: str) -> tuple[dict[str, str], list[str], str]:
    """The modules' hashes, what the tests found, and the whole log."""
    done = node.run("build", instance, "--kernel", release, "--json")
    assert done.status == 0, done.stderr
    (result,) = done.json["results"]
    extracted = node.path / "extracted"
    assert node.run("cache", "extract", result["key"], str(extracted)).status == 0
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in extracted.glob("*.ko")
    }
    log = Path(result["path"], "build.log").read_text()
    # make prints the files that it makes of the answers, in no order.
    return digests, sorted(re.findall(r"^#(?:define|undef) .*", log, re.MULTILINE)), log


def compare(folder: Path, instance: str, release: str, **settings: Any) -> None:
    at_once = Node(folder / "at-once", release, **settings)
    vendors = Node(folder / "vendors", release, **settings)
    profile = yaml.safe_load(PROFILE.read_text())
    del profile["files"], profile["make"]["batch"]
    own = vendors.path / "etc/modulus/profiles/nvidia.yaml"
    own.parent.mkdir()
    own.write_text(yaml.safe_dump(profile))

    digests, answers, log = build(at_once, instance, release)
    said = re.search(r"^conftest: (\d+) of (\d+) compiles in one$", log, re.MULTILINE)
    assert said
    assert said[1] == said[2]
    assert int(said[1]) > 150
    said = re.search(r"^batch: (\d+) of (\d+) objects compiled together$", log, re.MULTILINE)
    assert said
    assert said[1] == said[2]
    assert int(said[1]) > 150

    vendors_digests, vendors_answers, log = build(vendors, instance, release)
    assert "conftest: " not in log
    assert "batch: " not in log
    assert len(vendors_answers) > 200
    assert answers == vendors_answers
    assert digests == vendors_digests


def test_answers_and_modules_are_the_vendors(
    driver: str, kernels: Kernels, mirrors: list[Any], tmp_path: Path
) -> None:
    compare(tmp_path, f"nvidia-{driver}", kernels["6.1"]["amd64"][0], mirrors=mirrors)


@pytest.mark.full
@pytest.mark.parametrize(("series", "flavour"), [("6.1", "cloud-amd64"), ("6.12", "amd64")])
def test_they_are_on_other_kernels(
    series: str,
    flavour: str,
    driver: str,
    kernels: Kernels,
    mirrors: list[Any],
    tmp_path: Path,
) -> None:
    compare(tmp_path, f"nvidia-{driver}", kernels[series][flavour][0], mirrors=mirrors)


@pytest.mark.full
def test_they_are_for_the_open_flavour(
    vendor: Mirror, kernels: Kernels, mirrors: list[Any], tmp_path: Path
) -> None:
    path, version = runfile.open_run()
    if path is None:
        pytest.skip(version)
    vendor.serve(vendor_path(version), path)
    vendor.serve_checksum(vendor_path(version))
    release = kernels["6.1"]["amd64"][-1]
    compare(tmp_path, f"nvidia-{version}", release, mirrors=mirrors, flavour="open")
