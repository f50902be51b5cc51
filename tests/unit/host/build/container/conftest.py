"""What build containers are tried with: fake tools on PATH, on a host that has no services."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.host.build.container import Mount, engine
from modulus.host.report import own_unit
from modulus.host.report.reporter import PlainReporter

Fake = Callable[..., None]
MOUNTS = (Mount(Path("/s"), "/usr/src/x"), Mount(Path("/w"), "/build", writable=True))
FIRST = 2013265920


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts programs of this name and script on PATH, in front of no others than a shell's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))

    def add(*names: str, script: str = "exit 1") -> None:
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    return add


@pytest.fixture
def root_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def silent() -> PlainReporter:
    return PlainReporter(io.StringIO())


@pytest.fixture(autouse=True)
def no_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without systemd and docker, whatever this one is."""
    monkeypatch.setattr(own_unit, "systemd_runs", lambda: False)
    monkeypatch.setattr(engine, "_DOCKER_PID", tmp_path / "docker.pid")
