"""Programs that run beside their caller, who waits for them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from modulus.host.process.spawn import spawn


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_caller_gets_the_status() -> None:
    assert status(spawn(("/bin/sh", "-c", "exit 3"))) == 3


def test_a_program_that_cannot_be_started_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "program"
    program.write_text("no program")
    program.chmod(0o755)
    assert status(spawn((program,))) == 255
    assert "Exec format error" in capfd.readouterr().err


def test_what_python_ignores_ends_a_program() -> None:
    assert status(spawn(("/bin/sh", "-c", "kill -PIPE $$"))) == -signal.SIGPIPE


def test_it_has_a_session_and_an_environment_of_its_own_and_no_input(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "x")
    words = ("/bin/sh", "-c", "cat; cut -d' ' -f6 /proc/$$/stat; nice; env")
    niceness = os.nice(0)
    pid = spawn(words, env={"EXTRA": "y"}, nice=3)
    assert status(pid) == 0
    session, nice, *seen = capfd.readouterr().out.splitlines()
    assert (int(session), int(nice)) == (pid, min(niceness + 3, 19))
    assert "EXTRA=y" in seen
    assert not any(line.startswith("SECRET") for line in seen)
