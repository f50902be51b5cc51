"""The command lines of podman and docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.host.build.container import Limits, Mount, engine
from tests.unit.host.build.container.conftest import FIRST, Fake


@pytest.mark.parametrize("first_id", [FIRST, None])
def test_podman_command_line(first_id: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(engine, "give_writable", lambda _, uid: given.append(uid))
    mounts = (Mount(Path("/s"), "/src"), Mount(Path("/w"), "/build", writable=True))
    state, limits = Path("/running"), Limits(tasks=8)
    first, second = engine.podman_ways(
        Path("/tc/root"), mounts, state, "modulus-build-a", None, limits, first_id
    )
    assert (first.argv[0] == "unshare") == (first_id is not None)
    assert ("--userns=keep-id:uid=1000,gid=1000" in first.argv) == (first_id is None)
    maps = {f"--uidmap=0:{FIRST}:65536", f"--gidmap=0:{FIRST}:65536"}
    assert (maps < set(first.argv)) == (first_id is not None)
    assert given == ([] if first_id is None else [FIRST + 1000])
    assert "--ulimit=nproc=8:8" in first.argv
    assert first.argv[-2:] == ("--rootfs", "/tc/root:O")
    assert {"--network=none", "--cap-drop=all", "--read-only", "--user=1000:1000"} < set(
        first.argv
    )
    assert "--mount=type=bind,source=/s,target=/src,readonly" in first.argv
    assert "--mount=type=bind,source=/w,target=/build" in first.argv
    assert "--runtime=runc" not in first.argv
    assert "--runtime=runc" in second.argv


def test_docker_imports_a_root_once(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, images = tmp_path / "log", tmp_path / "images"
    fake(
        "docker",
        script=f'echo "$*" >>{log}\n'
        f"case $1 in image) [ -e {images} ];; import) : >{images};; esac",
    )
    (tmp_path / "root").mkdir()
    fake("tar", script=": >$5")
    monkeypatch.setattr(engine, "give_writable", lambda *_: None)
    for _ in range(2):
        (only,) = engine.docker_ways(
            tmp_path / "root", (), tmp_path, "modulus-build-a", Limits(1 << 20, 2, 6), FIRST
        )
    assert [line.split()[0] for line in log.read_text().splitlines()] == [
        "image",
        "import",
        "image",
    ]
    assert only.argv[-1].startswith("modulus-toolchain:")
    assert {"--memory=1048576", "--memory-swap=1048576", "--cpus=2"} < set(only.argv)
    assert {"--pids-limit=6", f"--user={FIRST + 1000}:{FIRST + 1000}"} < set(only.argv)
    assert not (tmp_path / "root.tar").exists()
