"""The command line of systemd-nspawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.host.build.container import Limits, nspawn
from tests.unit.host.build.container.conftest import FIRST, MOUNTS


def test_nspawn_has_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(nspawn, "give_writable", lambda _, uid: given.append(uid))
    (only,) = nspawn.ways(Path("/tc/root"), MOUNTS, Limits(tasks=9), "x", FIRST)
    assert given == [FIRST + 1000]
    assert {f"--private-users={FIRST}:65536", "--private-users-ownership=off"} < set(only.argv)
    assert {"--bind=/w:/build", "--bind-ro=/s:/usr/src/x"} < set(only.argv)
    assert "--rlimit=RLIMIT_NPROC=9" in only.argv
