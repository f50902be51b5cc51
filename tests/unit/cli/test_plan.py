"""``plan`` says whose word it takes for the driver's package."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from modulus.host.fetch.source_record import PackageRecord, source_path, write_source
from tests.support.fakedriver import FakeNode, fake_node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


def package(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """What it says of the package, as JSON and as text."""
    capsys.readouterr()
    assert node.run("plan", "gpu-1.0", "--json") == 0
    value = json.loads(capsys.readouterr().out)["package"]
    assert node.run("plan", "gpu-1.0") == 0
    lines = capsys.readouterr().out.splitlines()
    return value, "".join(line for line in lines if line.startswith("package: "))


def test_the_profile_knows_it(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    (known,) = (node.cache / "downloads").iterdir()
    assert package(node, capsys) == (
        {"sha256": known.name, "from": "profile"},
        f"package: {known.name[:12]} (by profile)",
    )


def test_a_record_in_a_store_wins(
    node: FakeNode, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    node.define(sha256={})
    assert package(node, capsys) == (None, "")
    store = node.root / "srv/store"
    record = PackageRecord("a" * 64, "https://mirror.test/gpu-1.0.tar.sha256sum")
    write_source(source_path(store, Instance("gpu", "1.0"), os.uname().machine), record)
    node.configure(stores=["/srv/store"])
    assert package(node, capsys) == (
        {"sha256": "a" * 64, "from": str(store)},
        f"package: {'a' * 12} (by {store})",
    )
