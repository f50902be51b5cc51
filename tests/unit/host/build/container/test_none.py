"""The command lines of a build on the host itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.host.build.container import Limits, none
from tests.unit.host.build.container.conftest import FIRST, MOUNTS


def test_none_has_ids_and_mounts_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(none, "give_writable", lambda _, uid: given.append(uid))
    monkeypatch.setattr(none, "_AT", tmp_path / "seen")
    (only,) = none.ways(MOUNTS, Limits(tasks=7), FIRST)
    assert given == [FIRST + 1000]
    assert {"unshare", "--net", "--mount-proc", "--kill-child=KILL"} < set(only.argv)
    at = f"{tmp_path}/seen"
    assert only.argv[-6:] == (at, "/s", f"{at}/usr-src-x", "/w", f"{at}/build", "--")
    assert only.payload[:2] == ("prlimit", "--nproc=7:7")
    assert {f"--reuid={FIRST + 1000}", f"--regid={FIRST + 1000}"} < set(only.payload)
    assert none.paths(MOUNTS, root=True)["/build"] == tmp_path / "seen/build"


def test_none_without_root_is_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = none.ways(MOUNTS, Limits(), None)
    assert [way.argv[:1] for way in ways] == [("unshare",), ()]
    assert all("setpriv" not in way.payload for way in ways)
    assert none.paths(MOUNTS, root=False)["/build"] == Path("/w")
