"""Fixtures that files of this folder share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.store.manifest import TOGETHER
from modulus.host.build import resources
from modulus.pipeline.build import job, proof
from tests.support.fakedriver import FakeNode, fake_node
from tests.support.proving import (
    Compiles,
)


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> Compiles:
    found = Compiles()
    # Nothing is compiled: it does not matter what this machine has to spare.
    for name in ("_JOB", "_DISK"):
        monkeypatch.setattr(resources, name, 1)
    for module in (proof, job):
        monkeypatch.setattr(module, "compile_job", found)
    return found


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """A node whose store has gpu-1.0, made by a shortcut."""
    for node in fake_node(tmp_path, monkeypatch):
        shutil.rmtree(node.cache / "builds")
        node.stock(made=TOGETHER)
        yield node
