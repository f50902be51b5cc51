"""The shelter where systemd makes no scope; with one, tests/vm/test_switch.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modulus.host.process import uninterruptible


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 60", None])
def test_without_a_scope_programs_run_all_the_same(
    script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uninterruptible, "_in_unit", lambda: True)
    monkeypatch.setattr(uninterruptible, "_SCOPE_SECONDS", 0.2)
    for name in ("sleep", "pwd"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    if script:
        tool = tmp_path / "systemd-run"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    before = children()
    with uninterruptible.shelter("what is done") as whole:
        assert whole(["pwd"], 5).status == 0
    assert children() == before


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()
