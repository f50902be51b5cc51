"""The command runner, with both versions of sh; how output becomes lines."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.errors import ToolchainError
from modulus.host.process import lines, run


def split(*pieces: bytes) -> list[str]:
    found: list[str] = []
    cut = lines.Lines(found.append)
    for piece in pieces:
        cut.feed(piece)
    cut.close()
    return found


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b""], []),
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a\n\nb"], ["a", "", "b"]),
        ([b"10 %\r20 %\r\n"], ["10 %", "20 %"]),
        ([b"a\r", b"\nb\n"], ["a", "b"]),
        ([b"a\r", b"b\r"], ["a", "b"]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
    ],
)
def test_lines(pieces: list[bytes], expected: list[str]) -> None:
    assert split(*pieces) == expected


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"\xc3\xa9"]), max_size=30))
def test_lines_do_not_depend_on_how_the_output_arrives(pieces: list[bytes]) -> None:
    assert split(*pieces) == split(b"".join(pieces))


def test_a_line_without_end_is_not_collected_whole() -> None:
    found = split(*[b"x" * 1000] * 1000)
    assert sum(map(len, found)) == 1_000_000
    assert max(map(len, found)) <= lines.LONGEST


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(5, 65), (120, 180), (900, 960), (3600, 3660), (3601, None), (None, None)],
)
def test_time_is_asked_for_a_command_that_cannot_hang_for_ever(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    timeout: float | None,
    seconds: int | None,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        run.run(("true",), timeout=timeout)
        if seconds:
            assert manager.recv(4096) == f"EXTEND_TIMEOUT_USEC={seconds}000000".encode()
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_output_and_status() -> None:
    result = run.run(("sh", "-c", "echo out; echo err >&2; exit 3"), ok=(3,))
    assert result == run.Result(3, "out\n", "err\n")


def test_environment_is_minimal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    # Of several programs, such as systemd-run, and where we ask ourselves.
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/bus")
    seen = set(run.run(("env",), env={"EXTRA": "y"}).stdout.splitlines())
    assert {"EXTRA=y", "LANG=C.UTF-8", "https_proxy=http://127.0.0.1:1"} <= seen
    assert "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/bus" in seen
    assert not any(line.startswith("SECRET") for line in seen)


def test_stdin_is_empty_and_cwd_is_set(tmp_path: Path) -> None:
    assert run.run(("sh", "-c", "cat; pwd"), cwd=tmp_path).stdout == f"{tmp_path}\n"


def test_failure_is_a_line_to_paste() -> None:
    with pytest.raises(run.CommandError) as caught:
        run.run(("sh", "-c", "echo first >&2; echo last >&2; exit 4"))
    assert caught.value.status == 4
    assert "first" in caught.value.output
    assert caught.value.message == "sh failed with status 4: last"
    assert caught.value.hint.endswith("sh -c 'echo first >&2; echo last >&2; exit 4'")


def test_a_program_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no program")
    program.chmod(0o755)
    with pytest.raises(run.CommandError, match=r"status 255.*Exec format error"):
        run.run((program,))


def test_what_python_ignores_ends_a_program() -> None:
    script = "kill -PIPE $$"
    done = run.run(("sh", "-c", script), ok=run.ANY_STATUS)
    assert done.status == -signal.SIGPIPE


def test_missing_program() -> None:
    with pytest.raises(ToolchainError, match="no-such-program is not installed"):
        run.run(("no-such-program",))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_status_of_a_killed_program_is_negative(number: signal.Signals) -> None:
    result = run.run(("sh", "-c", f"ulimit -c 0; kill -{number.value} $$"), ok=run.ANY_STATUS)
    assert result.status == -number.value


def test_lines_come_while_the_program_runs() -> None:
    came: list[float] = []
    run.run(
        ("sh", "-c", "echo a; sleep 0.3; echo b >&2"),
        on_line=lambda _: came.append(time.monotonic()),
    )
    assert len(came) == 2
    assert came[1] - came[0] > 0.2


def test_time_limit_kills_the_whole_group(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(run.CommandError, match="ran out of time") as caught:
        run.run(("sh", "-c", f"sleep 60 & echo $! > {pid}; wait"), timeout=0.3)
    assert caught.value.status is None
    assert time.monotonic() - began < 5
    assert_gone(int(pid.read_text()))


def test_an_exception_of_the_callback_kills_and_propagates(tmp_path: Path) -> None:
    def on_line(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt) as caught:
        run.run(("sh", "-c", "echo $$; sleep 60"), on_line=on_line)
    assert_gone(int(str(caught.value)))


def test_a_check_ends_what_says_nothing(tmp_path: Path) -> None:
    pid, calls = tmp_path / "pid", []

    def check() -> None:
        calls.append(pid.exists())
        if calls[-1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(
            ("sh", "-c", f"echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 60"), check=check
        )
    assert_gone(int(pid.read_text()))
    calls.clear()
    assert run.run(("sh", "-c", "sleep 1.2; exit 3"), ok=(3,), check=lambda: calls.append(True))
    assert len(calls) > 1


def test_a_daemon_holding_the_output_is_not_waited_for() -> None:
    began = time.monotonic()
    run.run(("sh", "-c", "sleep 5 & echo $!"), on_line=lambda pid: started.append(int(pid)))
    assert time.monotonic() - began < 2
    os.kill(started[-1], signal.SIGKILL)


started: list[int] = []


def test_preexec_runs_in_the_child(tmp_path: Path) -> None:
    assert run.run(("pwd",), preexec=lambda: os.chdir(tmp_path)).stdout == f"{tmp_path}\n"


def test_no_program_outlives_a_killed_caller(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = os.fork()
    if child == 0:
        run.run(("sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60"))
    while not pid.exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert_gone(int(pid.read_text()))


SLOW = "trap '' TERM; echo $$ >{0}/new; mv {0}/new {0}/pid; sleep 1; touch {0}/end"


def test_an_unbroken_program_outlives_a_killed_caller(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        run.run(("sh", "-c", SLOW.format(tmp_path)), unbroken=True)
    wait_for(tmp_path / "pid")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    wait_for(tmp_path / "end")


def test_an_exception_waits_for_an_unbroken_program(tmp_path: Path) -> None:
    def on_line(line: str) -> None:
        raise KeyboardInterrupt

    script = f"echo here; {SLOW.format(tmp_path)}"
    with pytest.raises(KeyboardInterrupt):
        run.run(("sh", "-c", script), on_line=on_line, unbroken=True)
    assert (tmp_path / "end").exists()


def test_the_time_limit_leaves_an_unbroken_program_to_itself(tmp_path: Path) -> None:
    script = (
        "from modulus.host.process import run\n"
        "words = ('sh', '-c', 'echo $$ >pid; exec sleep 60')\n"
        "try: run.run(words, timeout=0.3, unbroken=True)\n"
        "except run.CommandError as error: print(error.status)\n"
    )
    # A process that goes has nothing to wait for either.
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("None\n", "")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.01)


def test_interactive_has_the_terminal() -> None:
    child, terminal = pty.fork()
    if child == 0:
        status = 1
        try:
            status = run.interactive(("sh", "-c", "test -t 0 && read word && exit $word"))
        finally:
            os._exit(status)
    os.write(terminal, b"42\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    os.close(terminal)


def test_interrupt_is_for_the_interactive_program() -> None:
    child, terminal = pty.fork()
    if child == 0:
        status = 1
        try:
            script = "trap 'exit 7' INT; echo ready; while :; do sleep 0.05; done"
            status = run.interactive(("sh", "-c", script))
        finally:
            os._exit(status)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 100)
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    os.close(terminal)


def assert_gone(pid: int) -> None:
    """Waits until ``pid`` is dead or a zombie that somebody else has yet to reap."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} still runs")
