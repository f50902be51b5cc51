"""``up`` where every GPU has to work, and one was plugged in since the driver was installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from modulus.host.fetch.source_record import PackageRecord, source_path, write_source
from tests.support.fakedriver import FakeNode, fake_node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

SECOND = "0000:00:06.0"
ANY = {"flavour": "open", "why": "it is the usual one"}
CLOSED = {"pci": "0x1db4", "flavour": "closed", "why": "it is an old one"}


def plug(node: FakeNode, ids: str) -> None:
    node.sys.device(SECOND, ids, "0x030200", numa_node="0")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    for node in fake_node(tmp_path, monkeypatch):
        assert node.run("up", "gpu-1.0") == 0
        node.reboot()
        flavours = {"open": {"dir": "kernel"}, "closed": {"dir": "closed"}}
        node.define(flavours=flavours, flavour_rules=[CLOSED, ANY])
        node.configure(require_all_gpus=True)
        yield node


def test_one_that_wants_the_other_flavour_has_it_built(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    plug(node, "10de:1db4")
    node.run("up", "gpu-1.0")
    said = capsys.readouterr().err
    assert "plan: miss: flavour: open -> closed" in said
    assert "warm:" not in said


def test_one_that_wants_the_same_is_driven_by_what_is_there(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    plug(node, "10de:20b0")
    assert node.run("up", "gpu-1.0") == 0
    assert "plan: warm: " in capsys.readouterr().err


def test_a_damaged_record_of_the_package_ends_no_warm_start(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {key: key for key in ("entries", "id", "name", "features", "legacy")}
    node.define(gpu_list={"path": "gpus.json", **keys, "flavours": {}})
    package = (node.cache / "downloads").iterdir()
    record = PackageRecord(next(package).name, "the profile", {"entries": "damaged"})
    write_source(source_path(node.cache, Instance("gpu", "1.0"), os.uname().machine), record)
    assert node.run("up", "gpu-1.0") == 0
    said = capsys.readouterr().err
    assert "warning: it is not known which GPUs the driver is for: gpus.json: " in said
    assert "plan: warm: " in said
