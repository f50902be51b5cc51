from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from modulus.errors import ConfigError, LockedError
from modulus.host.files.lock import lock_holders, locked
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.site import Site
from tests.support.quiet import QUIET

HOLDER = """
import sys, time
from pathlib import Path
from modulus.host.files.lock import locked
from modulus.host.report.reporter import PlainReporter
with locked(Path(sys.argv[1]), "it", PlainReporter(), 1, shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path, kind: str) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, kind], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def end(holder: subprocess.Popen[bytes]) -> None:
    with holder:
        os.kill(holder.pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["exclusive", "shared"])
def test_tells_for_whom_it_waits_and_gives_up(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lock"
    holder = hold(path, kind)
    try:
        with (
            pytest.raises(LockedError, match=f"process {holder.pid}"),
            locked(path, "the store", PlainReporter(), 0.3),
        ):
            pass
        assert f"wait: for the store, held by process {holder.pid}" in capsys.readouterr().err
    finally:
        end(holder)


def test_a_killed_holder_leaves_nothing_locked(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    end(hold(path, "exclusive"))
    with locked(path, "the store", PlainReporter(), 0):
        assert path.exists()


def test_shared_locks_go_together(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = hold(path, "shared")
    try:
        with locked(path, "the store", PlainReporter(), 0, shared=True):
            assert holder.poll() is None
    finally:
        end(holder)


def test_where_no_lock_can_be_made_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "run/modulus").mkdir(parents=True)
    (tmp_path / "run/modulus/locks").write_text("no folder")
    site = Site(tmp_path, None, (), 0)
    with (
        pytest.raises(ConfigError, match=r"cannot write .*locks/it: .*Not a directory"),
        site.lock("it", "it", QUIET),
    ):
        pass


def test_what_happens_under_a_lock_is_not_its_own_trouble(tmp_path: Path) -> None:
    site = Site(tmp_path, None, (), 0)
    with pytest.raises(PermissionError), site.lock("it", "it", QUIET):
        raise PermissionError(errno.EACCES, "no")


def test_time_is_asked_for_as_long_as_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    holder = hold(path, "exclusive")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.setblocking(False)
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            with pytest.raises(LockedError), locked(path, "it", PlainReporter(), 0.5):
                pass
            assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=60500000"
            with pytest.raises(BlockingIOError):
                manager.recv(4096)
    finally:
        end(holder)


def test_holders_are_read_off_the_kernels_list() -> None:
    text = (
        "1: FLOCK  ADVISORY  WRITE 4242 fd:01:131 0 EOF\n"
        "1: -> FLOCK  ADVISORY  WRITE 4243 fd:01:131 0 EOF\n"
        "2: POSIX  ADVISORY  WRITE 7 fd:01:131 0 EOF\n"
        "3: FLOCK  ADVISORY  READ -1 fd:01:131 0 EOF\n"
        "4: FLOCK  ADVISORY  READ 8 fd:01:1310 0 EOF\n"
    )
    assert lock_holders(text, 131) == (4242,)
