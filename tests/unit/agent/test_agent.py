"""The agent, as a real process with a real child, real signals and a real notify socket."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.agent.backoff import PERMANENT, Backoff
from modulus.core.status.state import Failure, State
from modulus.host.status.files import failures_file
from modulus.host.watch.uevents import Uevents
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


def broken(*_: object, **__: object) -> str:
    raise ZeroDivisionError("a bug")
