"""Which drivers build for which kernels, and what to take where one does not."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import pytest

from modulus.errors import LastingBuildError
from modulus.host.build.failures import remember
from tests.support.fakedriver import GPU, RELEASE, FakeNode
from tests.support.proving import INSTANCE, Compiles

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

REFUSED = LastingBuildError("the sources do not fit", "choose a version")
ANY = {"flavour": "open", "why": "it is the usual one"}


def fits(node: FakeNode, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What it says as JSON: instance, flavour, kernel and state of each."""
    capsys.readouterr()
    assert node.run("fits", *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)["fits"]
    return [
        tuple(fit[key] for key in ("instance", "flavour", "kernel", "state")) for fit in found
    ]


def refuse(node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]) -> str:
    """The hint where the compiler refuses gpu-1.0."""
    for manifest in node.cache.glob("builds/*/*/manifest.json"):
        if '"gpu-1.0"' in manifest.read_text():
            shutil.rmtree(manifest.parent)
    compiles.makes = [LastingBuildError(REFUSED.message, REFUSED.hint)]
    capsys.readouterr()
    assert node.run("build", "gpu-1.0", "--json") == 14
    hint: str = json.loads(capsys.readouterr().out)["error"]["hint"]
    return hint


def test_what_was_built_and_refused(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.stock("2.0")
    kernels = [node.cache / "builds" / release for release in ("6.1.0-10-amd64", RELEASE)]
    kernels[0].mkdir()
    remember(kernels[0], "1" * 64, INSTANCE, "open", REFUSED)
    # What was built since counts more.
    remember(kernels[1], "2" * 64, INSTANCE, "open", REFUSED)
    assert fits(node, capsys) == [
        ("gpu-1.0", "open", RELEASE, "builds"),
        ("gpu-1.0", "open", "6.1.0-10-amd64", "refused"),
        ("gpu-2.0", "open", RELEASE, "builds"),
    ]
    assert len(fits(node, capsys, "--kernel", RELEASE)) == 2
    assert node.run("fits", "gpu-1.0", "--kernel", "6.1.0-10-amd64") == 0
    said = capsys.readouterr().out
    assert said == "gpu-1.0  open  6.1.0-10-amd64  refused: the sources do not fit\n"


def test_of_an_instance_what_is_untried(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    flavours = {"open": {"dir": "kernel"}, "closed": {"dir": "x", "driver": "<2"}}
    node.define(flavours=flavours, flavour_rules=[ANY])
    assert fits(node, capsys, "gpu-1.0") == [
        ("gpu-1.0", "closed", RELEASE, "untried"),
        ("gpu-1.0", "open", RELEASE, "builds"),
    ]
    assert fits(node, capsys, "gpu-3.0", "--kernel", "7.0.0-1-amd64") == [
        ("gpu-3.0", "open", "7.0.0-1-amd64", "untried")
    ]
    assert node.run("fits", "gpu-1.0", "--kernel", "../x") == 2


def test_where_nothing_was_built(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.forget_builds()
    capsys.readouterr()
    assert node.run("fits") == 0
    assert capsys.readouterr().out == "nothing was built yet\n"


def test_another_flavour_of_the_package_is_named(
    node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]
) -> None:
    flavours = {"open": {"dir": "kernel"}, "closed": {"dir": "closed"}}
    node.define(flavours=flavours, flavour_rules=[ANY])
    assert refuse(node, compiles, capsys) == (
        "set flavour: closed, of the same package; or choose a version"
    )
    # It was refused, too: both are known now.
    folder = node.cache / "builds" / RELEASE
    remember(folder, "1" * 64, INSTANCE, "closed", REFUSED)
    for path in folder.glob("*.failed.json"):
        if not path.name.startswith("1"):
            path.unlink()
    assert refuse(node, compiles, capsys) == "choose a version"


def test_one_that_is_not_for_its_gpus_is_not(
    node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]
) -> None:
    flavours = {"open": {"dir": "kernel"}, "closed": {"dir": "closed"}}
    of_gpu = {"pci": "0x20b0", "flavour": "open", "why": "it is a new one"}
    assert (node.root / "sys/bus/pci/devices" / GPU).exists()
    node.define(flavours=flavours, flavour_rules=[of_gpu, ANY])
    assert refuse(node, compiles, capsys) == "choose a version"


def test_a_version_that_builds_is_named(
    node: FakeNode, compiles: Compiles, capsys: pytest.CaptureFixture[str]
) -> None:
    node.stock("0.9")
    node.stock("2.0")
    assert refuse(node, compiles, capsys) == (
        "take gpu-2.0, which builds for this kernel; or choose a version"
    )
