"""How the agent and its child end, and what a bug does: real processes and real signals."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from modulus.agent.commands import command
from modulus.agent.failures import how
from modulus.agent.job_queue import BUILD, REPAIR, UP, Work
from modulus.agent.loop import Loop
from modulus.cli.parser import make_parser
from modulus.core.agent.backoff import Backoff
from modulus.core.status.state import State
from modulus.host.process.spawn import spawn
from modulus.pipeline.site import Site
from tests.support.agentbench import NAME, Bench, agent_bench, wait_for


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("modulus.agent.watch.modules._SETTLE", 0.05)
    with agent_bench(tmp_path) as made:
        yield made


READY = State(NAME, "ready", active=True, selected=True, generation="g-1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_begins_ends_it_as_any_other(bench: Bench, number: int) -> None:
    (bench.folder / "hold").touch()

    class Early(Loop):
        def child(self, pid: int, callback: Callable[[int], object]) -> None:
            super().child(pid, callback)
            wait_for((bench.folder / "held").exists)
            os.kill(os.getpid(), number)

    bench.loop = Early
    bench.start()
    assert bench.ended() == 0
    assert (bench.folder / "runs").read_text().endswith("ended\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_child_is_ended_first(bench: Bench, number: int) -> None:
    (bench.folder / "hold").touch()
    pid = bench.start()
    wait_for((bench.folder / "held").exists)
    os.kill(pid, number)
    assert bench.ended() == 0
    assert (bench.folder / "runs").read_text().endswith("ended\n")
    assert not any("READY" in message for message in bench.told())


def test_the_child_does_not_outlive_the_agent(bench: Bench) -> None:
    (bench.folder / "hold").touch()
    pid = bench.start()
    wait_for((bench.folder / "held").exists)
    os.kill(pid, signal.SIGKILL)
    bench.ended()
    wait_for(lambda: (bench.folder / "runs").read_text().endswith("ended\n"))


def test_a_signal_right_after_the_start_is_not_lost() -> None:
    """Not even where we handle it: until its program runs, the child has our handlers."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        for _ in range(20):
            pid = spawn(("/bin/sleep", "60"))
            os.kill(pid, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_hangup_runs_it_again(bench: Bench) -> None:
    bench.leaves(READY)
    pid = bench.start()
    bench.tells("READY=1")
    (bench.folder / "hold").touch()
    os.kill(pid, signal.SIGHUP)
    wait_for((bench.folder / "held").exists)
    # While it runs: once more, after it.
    os.kill(pid, signal.SIGHUP)
    time.sleep(0.05)
    (bench.folder / "hold").unlink()
    wait_for(lambda: bench.runs == 3)
    assert bench.stop() == 0


def test_a_hangup_ends_a_wait(bench: Bench) -> None:
    bench.codes(14)
    pid = bench.start()
    bench.tells("STATUS=wait: ")
    os.kill(pid, signal.SIGHUP)
    bench.tells("READY=1")


def test_the_watchdog_hears_from_the_loop(bench: Bench) -> None:
    bench.start(watchdog=0.05)
    wait_for(lambda: bench.told().count("WATCHDOG=1") >= 3)


def test_the_watchdog_sees_a_loop_that_is_kept_busy(bench: Bench) -> None:
    busy, turns = bench.folder / "busy", bench.folder / "turns"
    busy.touch()

    class Busy(Loop):
        def run(self) -> int:
            self.cancel = self.readable(os.open("/dev/zero", os.O_RDONLY), self.work)
            return super().run()

        def work(self) -> None:
            if not busy.exists():
                self.cancel()
            with open(turns, "a") as file:
                file.write("x")
            time.sleep(0.01)

    bench.loop = Busy
    bench.start(watchdog=0.01)
    wait_for(lambda: turns.exists() and turns.stat().st_size > 100)
    assert "WATCHDOG=1" not in bench.told()
    busy.unlink()
    bench.tells("WATCHDOG=1")


def broken(*_: object, **__: object) -> str:
    raise ZeroDivisionError("a bug")


def no_fork(*_: object, **__: object) -> Sequence[str]:
    raise OSError(errno.EAGAIN, "try again")


@pytest.mark.parametrize(
    ("part", "faulty", "told"),
    [
        ("inputs", broken, "ZeroDivisionError: a bug"),
        ("command", broken, "ZeroDivisionError: a bug"),
        ("command", no_fork, "BlockingIOError: "),
    ],
)
def test_what_nobody_thought_of_is_told_and_all_is_done_anew(
    bench: Bench, part: str, faulty: Callable[..., object], told: str
) -> None:
    right = getattr(bench.task, part)

    def once(*words: object, **more: object) -> object:
        wrong = bench.folder / "wrong"
        if not wrong.exists():
            return right(*words, **more)
        wrong.unlink()
        return faulty(*words, **more)

    changes: dict[str, Any] = {part: once}
    bench.task = replace(bench.task, backoff=Backoff(0.01), **changes)
    bench.codes(0, 14, 14)
    pid = bench.start()
    bench.tells("READY=1")
    (bench.folder / "wrong").touch()
    bench.messages.clear()
    os.kill(pid, signal.SIGHUP)
    bench.tells("READY=1")
    lines = bench.log().splitlines()
    assert any(line.startswith(f"modulus: error: {told}") for line in lines)
    assert any(line.startswith("modulus: hint: this is a bug, ") for line in lines)
    assert "Traceback" in bench.log()
    assert bench.stop() == 0


def test_a_bug_that_comes_again_and_again_ends_the_agent(bench: Bench) -> None:
    bench.task = replace(bench.task, inputs=broken, backoff=Backoff(0.01, 0.01))
    bench.codes(*[14] * 9)
    bench.start()
    assert bench.ended() == 70
    assert bench.log().count("modulus: hint: this is a bug, ") == 5
    assert bench.runs == 6


@pytest.mark.parametrize(
    ("code", "text"), [(3, "status 3"), (-9, "signal SIGKILL"), (-40, "signal 40")]
)
def test_how_a_child_ended(code: int, text: str) -> None:
    assert how(code) == text


@dataclass(frozen=True)
class Options:
    """Some of the command line's."""

    config: Path | None = None
    assignments: tuple[str, ...] = ()
    lock_timeout: float | None = None
    verbose: bool = False


@pytest.mark.parametrize(
    ("work", "options", "words"),
    [
        (UP, Options(), "up driver-1.0 --root=/r --lock-timeout=120"),
        (BUILD, Options(), "build driver-1.0 --root=/r --lock-timeout=120"),
        (
            REPAIR,
            Options(Path("/c"), ("flavour=open", "numa_fix=true"), 5, True),
            "up driver-1.0 --repair --root=/r --config=/c --set=flavour=open "
            "--set=numa_fix=true --lock-timeout=5 -v",
        ),
    ],
)
def test_the_child_gets_the_same_options(work: Work, options: Options, words: str) -> None:
    site = Site(Path("/r"), options.config, options.assignments, options.lock_timeout)
    built = command(site, NAME, work, options.verbose)
    assert list(built) == [sys.executable, "-I", "-m", "modulus", *words.split()]
    make_parser().parse_args(built[4:])


SMALL = """
import os, sys
from pathlib import Path
from modulus.agent import resident
from modulus.core.instance import Instance
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.site import Site
import pydbus, modulus.host.bus.systemd
resident.command = lambda *_: ("/bin/sh", "-c", sys.argv[2])
site = Site(Path(sys.argv[1]), None, (), None)
sys.exit(resident.watch(site, Instance("driver", "1.0"), PlainReporter()))
"""


def test_at_rest_it_is_small(bench: Bench) -> None:
    """Under 45 MiB, all that it uses loaded."""
    environ = {**os.environ, "NOTIFY_SOCKET": str(bench.folder / "notify")}
    words = [sys.executable, "-c", SMALL, str(bench.root), "exit 0"]
    bench.pid = os.posix_spawn(sys.executable, words, environ)
    bench.tells("READY=1")
    # What comes after READY: settings, kernels, the state that it shows.
    wait_for((bench.root / "run/modulus/standby").parent.exists)
    time.sleep(0.3)
    status = Path(f"/proc/{bench.pid}/status").read_text().split()
    assert int(status[status.index("VmRSS:") + 1]) < 45 * 1024
    assert bench.stop() == 0
