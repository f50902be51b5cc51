"""A build that runs as a service of systemd."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from modulus.errors import BuildError
from modulus.host.build import container
from modulus.host.build.container import Limits, Mount, nspawn, service
from modulus.host.report import own_unit
from modulus.host.report.reporter import PlainReporter
from tests.unit.host.build.container.conftest import FIRST, Fake


@pytest.mark.parametrize("niceness", [0, 19])
def test_a_build_is_in_no_more_of_a_hurry_than_who_asks(
    niceness: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getpriority", lambda *_: niceness)
    low = {"--property=Nice=19", "--property=CPUWeight=10", "--property=IOWeight=10"}
    assert low & set(service.argv("a", Limits(), {})) == (low if niceness else set())


@pytest.mark.usefixtures("root_user")
def test_a_build_is_a_service_where_systemd_runs(
    fake: Fake, silent: PlainReporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_unit, "systemd_runs", lambda: True)
    monkeypatch.setattr(own_unit, "current_unit", lambda: "modulus@a.service")
    monkeypatch.setattr(nspawn, "give_writable", lambda *_: None)
    monkeypatch.setattr(container, "claim", lambda _: contextlib.nullcontext(FIRST))
    log = tmp_path / "log"
    fake("systemctl", script=f'echo "systemctl $*" >>{log}')
    # Runs what the container would: all from the payload's shell on.
    fake(
        "systemd-run",
        script=f'echo "run $*" >>{log}; while [ "$1" != /bin/sh ]; do shift; done; "$@"',
    )
    mounts = (Mount(tmp_path / "a:b", "/src"), Mount(tmp_path / "w", "/build", writable=True))
    (tmp_path / "sc").mkdir()
    with container.open_container(
        "nspawn", Path("/root"), mounts, Limits(5 << 20, 1.5, 9), "a b", tmp_path / "sc", silent
    ) as opened:
        opened._paths = {"/build": tmp_path}
        lines: list[str] = []
        assert opened.run(("sh", "-c", "echo hi; exit 3"), on_line=lines.append) == 3
        assert lines == ["hi"]
        with pytest.raises(BuildError):
            opened.run(("sh", "-c", "sleep 9"), on_line=lines.append, timeout=0.2)
    said = log.read_text().splitlines()
    stop = [
        "systemctl --quiet kill --signal=KILL modulus-build-a_b.service",
        "systemctl --quiet stop modulus-build-a_b.service",
        "systemctl --quiet reset-failed modulus-build-a_b.service",
    ]
    assert said[:3] == stop, "a leftover one goes first"
    assert said[-3:] == stop, "a passed time limit ends the service"
    start = next(line for line in said if line.startswith("run "))
    assert start.startswith("run --quiet --wait --pipe --collect --service-type=exec ")
    for part in (
        "--unit=modulus-build-a_b.service",
        "--description=Kernel driver build (modulus-build-a_b)",
        "--property=OOMPolicy=continue",
        "--property=KillMode=mixed",
        "--property=MemoryMax=5242880",
        "--property=MemorySwapMax=0",
        "--property=CPUQuota=150%",
        "--property=TasksMax=9",
        "--property=BindsTo=modulus@a.service",
        "--setenv=SYSTEMD_NSPAWN_LOCK=0",
        "-- systemd-nspawn",
        "--keep-unit",
        f"--private-users={FIRST}:65536",
        f"--bind-ro={tmp_path}/a\\:b:/src",
        f"--bind={tmp_path}/w:/build",
    ):
        assert f" {part} " in start
