"""The agent, as a real process with a real child, real signals and a real notify socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from modulus.agent.agent import Agent, Task
from modulus.agent.inputs import inputs_digest
from modulus.agent.loop import Loop
from modulus.agent.resident import command, passed_on
from modulus.core.backoff import PERMANENT, Backoff
from modulus.core.instance import Instance
from modulus.core.pci import PciMatch
from modulus.core.state import Failure, State
from modulus.host.notify import Notifier
from modulus.host.report import PlainReporter
from modulus.host.spawn import spawn
from modulus.host.statefile import failures_file, read_state
from modulus.host.uevents import Uevents
from modulus.pipeline.site import Site

NAME = "driver-1.0"

with warnings.catch_warnings():
    # Once, or every process of these tests would import it anew.
    warnings.simplefilter("ignore", ImportWarning)
    from gi.repository import GLib  # noqa: F401

CHILD = """
cd "$1"
echo "$$ $*" >>runs
trap 'echo ended >>runs; exit 143' TERM
run=$(wc -l <runs)
[ ! -e state ] || { mkdir -p root/run/modulus; cp state root/run/modulus/driver-1.0.json; }
code=$(sed -n "${run}p" codes)
[ ! -e hold ] || { : >held; while [ -e hold ]; do sleep 0.02; done; }
[ "${code:-0}" != kill ] || kill -9 $$
exit "${code:-0}"
"""


WRITER = """\
import sys
from pathlib import Path
from modulus.core.state import State
from modulus.host.statefile import write_state
write_state(Path(sys.argv[1]), State("driver-1.0", "build", progress=0.5))
print("written", flush=True)
sys.stdin.read()
"""


def wait_for(found: Callable[[], object], what: str = "it") -> None:
    deadline = time.monotonic() + 10
    while not found():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.01)


class Bench:
    """An agent's surroundings below one folder; its child is told by files what to do."""

    def __init__(self, folder: Path, manager: socket.socket) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.manager = manager
        self.messages: list[str] = []
        self.pid: int | None = None
        self.loop = Loop
        self.kernel, self.ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        script = folder / "child"
        script.write_text(CHILD)
        (folder / "codes").touch()
        self.task = Task(
            root=self.root,
            instance=NAME,
            command=("/bin/sh", str(script), str(folder)),
            env={},
            inputs=lambda: inputs_digest(self.root, None),
            gpus=lambda: (PciMatch(0x10DE, 0x0302),),
            uevents=lambda: Uevents(self.ours.dup()),
            backoff=Backoff(60),
            poll=0.05,
            settle=0.05,
        )

    def codes(self, *codes: object) -> None:
        """The exit codes of the child's runs, one after the other; then 0."""
        (self.folder / "codes").write_text("".join(f"{code}\n" for code in codes))

    def leaves(self, state: State | None) -> None:
        """The state the child will write before it ends."""
        if state:
            (self.folder / "state").write_text(json.dumps(state.value()))

    @property
    def runs(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "runs").read_text().count(str(self.folder))
        return 0

    @property
    def state(self) -> State:
        state = read_state(self.root, NAME)
        assert state
        return state

    def start(self, watchdog: float | None = None) -> int:
        # GLib's threads, one of which sees signals, would be missing in the child.
        threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
        assert not {"gmain\n", "gdbus\n"} & set(threads), "run it before what uses GLib itself"
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                with open(self.folder / "log", "a", buffering=1) as log:
                    notifier = Notifier(str(self.folder / "notify"))
                    agent = Agent(self.task, self.loop(), notifier, PlainReporter(log))
                    try:
                        status = agent.run(watchdog)
                    except BaseException:
                        traceback.print_exc(file=log)
            finally:
                os._exit(status)
        return self.pid

    def ended(self) -> int:
        """Waits for the agent; its exit status."""
        assert self.pid
        handle = os.pidfd_open(self.pid)
        try:
            assert select.select([handle], [], [], 60)[0], "the agent does not end"
        finally:
            os.close(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = None
        return status

    def stop(self) -> int:
        assert self.pid
        os.kill(self.pid, signal.SIGTERM)
        return self.ended()

    def tells(self, text: str) -> None:
        """Waits until systemd was told ``text``."""
        wait_for(lambda: any(text in message for message in self.told()), text)

    def told(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.messages.append(self.manager.recv(4096).decode())
        return self.messages

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def gpu(self, action: str, ids: str = "10DE:20B0") -> None:
        """A message of the kernel."""
        fields = ("SUBSYSTEM=pci", "PCI_CLASS=30200", f"PCI_ID={ids}", "PCI_SLOT_NAME=05.0")
        texts = (f"{action}@/devices/x", f"ACTION={action}", *fields)
        self.kernel.send("".join(f"{text}\0" for text in texts).encode())

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.ended()
        self.kernel.close()
        self.ours.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "root").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        made = Bench(tmp_path, manager)
        try:
            yield made
        finally:
            made.close()


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
    assert bench.runs == 2, "the driver is there; a GPU more is its own business"


@pytest.mark.parametrize(("action", "runs"), [("add", 2), ("bind", 1)])
def test_a_gpu_that_comes_while_the_child_looks_for_one(
    bench: Bench, action: str, runs: int
) -> None:
    bench.leaves(NO_GPU)
    (bench.folder / "hold").touch()
    bench.start()
    wait_for((bench.folder / "held").exists)
    bench.gpu(action)
    (bench.folder / "hold").unlink()
    bench.tells("STATUS=waiting for a GPU")
    time.sleep(0.3)
    assert bench.runs == runs


def test_without_the_kernels_messages_it_goes_on(bench: Bench) -> None:
    def refused() -> Uevents:
        raise PermissionError("no netlink here")

    bench.task = replace(bench.task, uevents=refused)
    bench.leaves(NO_GPU)
    bench.start()
    bench.tells("STATUS=waiting for a GPU")
    wait_for(lambda: "the kernel does not tell" in bench.log())


def test_without_the_kernels_messages_gpus_are_looked_for(bench: Bench) -> None:
    def refused() -> Uevents:
        raise PermissionError("no netlink here")

    bench.task = replace(bench.task, uevents=refused, census=0.05)
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


def test_a_bug_in_the_agent_ends_it(bench: Bench) -> None:
    def broken() -> str:
        raise ZeroDivisionError

    bench.task = replace(bench.task, inputs=broken)
    bench.codes(14)
    bench.start()
    assert bench.ended() == 70
    assert "ZeroDivisionError" in bench.log()


@dataclass(frozen=True)
class Options:
    """Some of the command line's."""

    config: Path | None = None
    assignments: tuple[str, ...] = ()
    lock_timeout: float | None = None
    verbose: bool = False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(), "--root=/r --lock-timeout=120"),
        (
            Options(Path("/c"), ("flavour=open", "cdi=true"), 5, True),
            "--root=/r --config=/c --set=flavour=open --set=cdi=true --lock-timeout=5 -v",
        ),
    ],
)
def test_the_child_gets_the_same_options(options: Options, words: str) -> None:
    site = Site(
        Path("/r"), options.config, options.assignments, options.lock_timeout, PlainReporter()
    )
    begin = [sys.executable, "-I", "-m", "modulus", "up", NAME]
    built = command(site, Instance("driver", "1.0"), options.config, options.verbose)
    assert list(built) == [*begin, *words.split()]


def test_the_child_gets_what_it_needs_of_the_environment() -> None:
    kept = {"NOTIFY_SOCKET": "n", "JOURNAL_STREAM": "1:2", "INVOCATION_ID": "i"}
    kept["MODULUS_BUILD__JOBS"] = "4"
    others = {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "SECRET": "s", "MODULUSX": "1"}
    assert passed_on({**kept, **others}) == kept


SMALL = """
import os, sys
from pathlib import Path
from modulus.agent import resident
from modulus.core.instance import Instance
from modulus.host.report import PlainReporter
from modulus.pipeline.site import Site
resident.command = lambda *_: ("/bin/sh", "-c", sys.argv[2])
site = Site(Path(sys.argv[1]), None, (), None, PlainReporter())
sys.exit(resident.watch(site, Instance("driver", "1.0")))
"""


def test_at_rest_it_is_small(bench: Bench) -> None:
    """Under 45 MiB, all that it uses loaded."""
    environ = {**os.environ, "NOTIFY_SOCKET": str(bench.folder / "notify")}
    words = [sys.executable, "-c", SMALL, str(bench.root), "exit 0"]
    bench.pid = os.posix_spawn(sys.executable, words, environ)
    bench.tells("READY=1")
    status = Path(f"/proc/{bench.pid}/status").read_text().split()
    assert int(status[status.index("VmRSS:") + 1]) < 45 * 1024
    assert bench.stop() == 0
