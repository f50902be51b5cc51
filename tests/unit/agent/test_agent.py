"""The agent, as a real process with a real child, real signals and a real notify socket."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
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
from modulus.core.agent.backoff import PERMANENT, Backoff
from modulus.core.status.state import Failure, State
from modulus.host.process.spawn import spawn
from modulus.host.status.files import failures_file
from modulus.host.watch.uevents import Uevents
from modulus.pipeline.site import Site
from tests.support.agentbench import NAME, Bench, agent_bench, wait_for

WRITER = """\
import sys
from pathlib import Path
from modulus.core.status.state import State
from modulus.host.status.files import write_state
write_state(Path(sys.argv[1]), State("driver-1.0", "build", progress=0.5))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("modulus.agent.watch.modules._SETTLE", 0.05)
    with agent_bench(tmp_path) as made:
        yield made


READY = State(NAME, "ready", active=True, selected=True, generation="g-1")
NO_GPU = State(NAME, "wait", selected=True, key="k")
FAILED = State(NAME, "failed", error=Failure(14, "it did not compile", "read the log"))


def test_ready_and_stopped(bench: Bench) -> None:
    bench.leaves(READY)
    bench.start()
    bench.tells("READY=1\nSTATUS=ready: g-1")
    wait_for(lambda: bench.state.phase == "watch")
    assert bench.stop() == 0
    assert bench.told()[-1].startswith("STOPPING=1")
    assert bench.state == replace(READY, since=bench.state.since)
    assert bench.runs == 1


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (replace(READY, active=False, selected=False), "READY=1\nSTATUS=ready: built, no GPU"),
        (replace(READY, active=False), "READY=1\nSTATUS=ready: built, not loaded"),
        (None, f"READY=1\nSTATUS=ready: {NAME}"),
    ],
)
def test_ready_says_what_for(bench: Bench, state: State | None, text: str) -> None:
    bench.leaves(state)
    bench.start()
    bench.tells(text)


@pytest.mark.parametrize("code", sorted(PERMANENT))
def test_what_stays_wrong_ends_the_agent(bench: Bench, code: int) -> None:
    bench.codes(code)
    bench.leaves(replace(FAILED, error=Failure(code, "the cause", "the next step")))
    bench.start()
    assert bench.ended() == code
    assert bench.told() == ["STATUS=failed: the cause (next: the next step)"]
    assert bench.state.phase == "failed"
    assert bench.runs == 1


def test_an_error_that_the_child_could_not_write_down(bench: Bench) -> None:
    bench.codes(10)
    bench.leaves(FAILED)
    bench.start()
    assert bench.ended() == 10
    assert bench.state.error
    assert (bench.state.error.code, bench.state.error.message) == (
        10,
        "up ended with status 10",
    )


@pytest.mark.parametrize("code", [1, 14, "kill"])
def test_what_may_pass_is_tried_again(bench: Bench, code: object) -> None:
    bench.task = replace(bench.task, backoff=Backoff(0.05, 0.05))
    bench.codes(code, code)
    bench.start()
    bench.tells("READY=1")
    assert bench.runs == 3
    waits = [message for message in bench.messages if "STATUS=wait: " in message]
    assert len(waits) >= 2
    assert all(message.startswith("EXTEND_TIMEOUT_USEC=1800") for message in waits)
    record = failures_file(bench.root, NAME)
    assert record.parent.is_dir()
    wait_for(lambda: not record.exists(), "the end of the record: it works again")


def test_a_failure_without_a_word_is_one(bench: Bench) -> None:
    bench.leaves(State(NAME, "failed", error=Failure(14, "", "")))
    bench.codes(14)
    bench.start()
    bench.tells("to the next try, for ")
    assert bench.stop() == 0
    assert "Traceback" not in bench.log()


def test_while_it_waits_it_says_for_what(bench: Bench) -> None:
    bench.codes(14)
    bench.leaves(FAILED)
    bench.start()
    bench.tells("STATUS=wait: 1:00 min to the next try, for it did not compile")
    wait_for(lambda: bench.state.phase == "wait")
    assert bench.state.error == FAILED.error
    assert bench.state.eta_s == pytest.approx(60, abs=2)
    # Time is asked for again and again, for the whole wait.
    wait_for(lambda: len(bench.told()) >= 3)
    assert "wait: 1:00 min before the next try (1 failed)" in bench.log()
    assert bench.stop() == 0
    assert bench.state.phase == "failed"
    assert bench.runs == 1


def test_the_child_that_was_killed_is_told_of(bench: Bench) -> None:
    bench.codes("kill")
    bench.leaves(State(NAME, "build", progress=0.5))
    bench.start()
    bench.tells("for what was in phase build ended without a word")
    assert "modulus: error: what was in phase build ended without a word" in bench.log()
    assert "modulus: hint: " in bench.log()


def test_failures_add_up_across_agents(bench: Bench) -> None:
    bench.codes(14, 14, 14, 14)
    for count, text in ((1, "1:00 min"), (2, "2:00 min")):
        bench.start()
        bench.tells(f"STATUS=wait: {text} to the next try")
        bench.stop()
        assert f"({count} failed)" in bench.log()
    (bench.root / "etc/modulus").mkdir(parents=True)
    (bench.root / "etc/modulus/modulus.yaml").write_text("flavour: open\n")
    bench.messages.clear()
    bench.start()
    bench.tells("STATUS=wait: 1:00 min to the next try")


def test_a_lock_makes_no_wait_longer(bench: Bench) -> None:
    bench.task = replace(bench.task, backoff=Backoff(0.05))
    bench.codes(*[20] * 6)
    bench.start()
    bench.tells("READY=1")


def write_settings(root: Path) -> None:
    (root / "etc/modulus/modulus.d").mkdir(parents=True)
    (root / "etc/modulus/modulus.d/a.yaml").write_text("flavour: open\n")


def write_profile(root: Path) -> None:
    (root / "etc/modulus/profiles").mkdir(parents=True)
    (root / "etc/modulus/profiles/driver.yaml").write_text("name: driver\n")


def install_kernel(root: Path) -> None:
    (root / "lib/modules/6.1.0-9").mkdir(parents=True)
    (root / "lib/modules/6.1.0-9/modules.builtin").touch()


@pytest.mark.parametrize("change", [write_settings, write_profile, install_kernel])
def test_a_change_ends_the_wait(bench: Bench, change: Callable[[Path], None]) -> None:
    bench.codes(14)
    bench.start()
    bench.tells("STATUS=wait: ")
    change(bench.root)
    bench.tells("READY=1")


def test_a_gpu_that_is_plugged_in(bench: Bench) -> None:
    bench.leaves(NO_GPU)
    bench.start()
    bench.tells("READY=1\nSTATUS=waiting for a GPU")
    wait_for(lambda: bench.state.since is not None)
    assert bench.state.phase == "wait"
    assert bench.state.key == "k"
    bench.leaves(READY)
    bench.gpu("add", "1AF4:1000")
    bench.gpu("change")
    time.sleep(0.2)
    assert bench.runs == 1
    # Two at once are one reason.
    bench.gpu("add")
    bench.gpu("bind")
    bench.tells("READY=1\nSTATUS=ready: g-1")
    assert bench.runs == 2
    assert "the kernel says: add 05.0 (10de:20b0)" in bench.log()
    bench.gpu("add")
    time.sleep(0.2)
    assert bench.works == ["up", "up", "repair"], "the driver is there; it is only looked at"


def test_a_gpu_that_comes_while_the_child_looks_for_one(bench: Bench) -> None:
    bench.leaves(NO_GPU)
    bench.holds()
    bench.start()
    wait_for((bench.folder / "held").exists)
    bench.gpu("add")
    bench.goes_on()
    bench.tells("STATUS=waiting for a GPU")
    wait_for(lambda: bench.runs == 2)


def test_without_the_kernels_messages_it_goes_on(bench: Bench) -> None:
    def refused() -> Uevents:
        raise PermissionError("no netlink here")

    bench.uevents = refused
    bench.leaves(NO_GPU)
    bench.start()
    bench.tells("STATUS=waiting for a GPU")
    wait_for(lambda: "the kernel does not tell" in bench.log())


def test_without_the_kernels_messages_gpus_are_looked_for(bench: Bench) -> None:
    def refused() -> Uevents:
        raise PermissionError("no netlink here")

    bench.uevents = refused
    bench.task = replace(bench.task, census=0.05)
    bench.leaves(NO_GPU)
    bench.start()
    wait_for(lambda: bench.runs >= 3)
    bench.leaves(READY)
    bench.tells("READY=1\nSTATUS=ready: g-1")
    assert bench.log().count("the kernel does not tell") == 1
    wait_for(lambda: bench.state.phase == "watch")
    runs = bench.runs
    time.sleep(0.2)
    assert bench.runs == runs, "the driver is there"


def break_folder(root: Path) -> None:
    (root / "run").write_text("no folder")


def break_link(root: Path) -> None:
    (root / "run").symlink_to("run")


def break_names(root: Path) -> None:
    (root / f"run/modulus/{NAME}.json").mkdir(parents=True)
    failures_file(root, NAME).mkdir(parents=True)


@pytest.mark.parametrize("broken", [break_folder, break_link, break_names])
def test_trouble_with_its_own_files_ends_nothing(
    bench: Bench, broken: Callable[[Path], None]
) -> None:
    broken(bench.root)
    bench.task = replace(bench.task, backoff=Backoff(0.05, 0.15))
    bench.codes(14, 14)
    bench.start()
    bench.tells(f"READY=1\nSTATUS=ready: {NAME}")
    assert bench.runs == 3
    assert "(1 failed)" in bench.log() and "(2 failed)" in bench.log()
    assert bench.stop() == 0
    assert bench.log().count("warning: the state is not kept: ") == 1


def test_the_state_of_another_at_work_is_left_alone(bench: Bench) -> None:
    bench.codes(20)
    words, pipe = [sys.executable, "-c", WRITER, str(bench.root)], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as other:
        assert other.stdout and other.stdout.readline() == b"written\n"
        bench.start()
        bench.tells("to the next try, for another process is at work on driver-1.0")
        wait_for(lambda: len(bench.told()) >= 3)
        assert bench.state == State(NAME, "build", progress=0.5)
        assert bench.stop() == 0
        assert bench.state == State(NAME, "build", progress=0.5)
        assert other.stdin
        other.stdin.close()


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
