"""An agent as a real process, with a real child, real signals and a real notify socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modulus.agent.agent import Agent
from modulus.agent.inputs_digest import inputs_digest
from modulus.agent.job_queue import Work
from modulus.agent.loop import Loop
from modulus.agent.show.instance_status import InstanceStatus
from modulus.agent.task import Task
from modulus.agent.watch.modules import ModuleWatch
from modulus.agent.watch.selection import SelectionWatch
from modulus.core.agent.backoff import Backoff
from modulus.core.agent.events import Event, EventSource
from modulus.core.instance import parse_instance
from modulus.core.pci import PciMatch
from modulus.core.status.state import State
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.report.notify import Notifier
from modulus.host.report.reporter import PlainReporter
from modulus.host.status.files import read_state
from modulus.host.watch.uevents import Uevents

NAME = "driver-1.0"

with warnings.catch_warnings():
    # Once, or every process of these tests would import it anew.
    warnings.simplefilter("ignore", ImportWarning)
    from gi.repository import GLib  # noqa: F401

CHILD = """
cd "$1"
echo "$$ $*" >>runs
trap 'echo ended >>runs; exit 143' TERM
run=$(grep -c '^[0-9]' runs)
[ ! -e state ] || { mkdir -p root/run/modulus; cp state root/run/modulus/driver-1.0.json; }
[ ! -e "$2-selects" ] || {
    mkdir -p root/var/lib/modulus/driver
    cp "$2-selects" .selected
    mv .selected root/var/lib/modulus/driver/selected
}
code=$(sed -n "${run}p" codes)
[ ! -e hold ] || { : >held; while [ -e hold ]; do sleep 0.02; done; }
[ "${code:-0}" != kill ] || kill -9 $$
exit "${code:-0}"
"""


def wait_for(found: Callable[[], object], what: str = "it") -> None:
    deadline = time.monotonic() + 10
    while not found():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.01)


@dataclass
class Pipe:
    """A source that tells what is written into a socket: a kind, and a text."""

    loop: Loop
    channel: socket.socket
    tell: Callable[[Event], object]

    def start(self) -> None:
        self.channel.setblocking(False)
        self.loop.readable(self.channel.fileno(), self.read)

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                kind, text = json.loads(self.channel.recv(4096))
                self.tell(Event(kind, text))

    def stop(self) -> None:
        pass


@dataclass
class Spare:
    """Notes in the file ``spare`` when the agent has time, and when it has none."""

    folder: Path

    def look(self) -> None:
        self._note("look")

    def give_way(self) -> None:
        self._note("give way")

    def _note(self, what: str) -> None:
        with open(self.folder / "spare", "a") as file:
            file.write(f"{what}\n")


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
        self.events, self.heard = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        script = folder / "child"
        script.write_text(CHILD)
        (folder / "codes").touch()

        def command(work: Work, *, pending: bool) -> Sequence[str]:
            more = ["pending"] if pending else []
            return ("/bin/sh", str(script), str(folder), work, *more)

        self.uevents: Callable[[], Uevents] = lambda: Uevents(self.ours.dup())
        self.task = Task(
            root=self.root,
            instance=parse_instance(NAME, ""),
            command=command,
            env={},
            inputs=lambda: inputs_digest(self.root, None),
            backoff=Backoff(60),
            poll=0.05,
            settle=0.05,
            calm=0.05,
        )

    def codes(self, *codes: object) -> None:
        """The exit codes of the child's runs, one after the other; then 0."""
        (self.folder / "codes").write_text("".join(f"{code}\n" for code in codes))

    def leaves(self, state: State | None) -> None:
        """The state the child will write before it ends."""
        if state:
            (self.folder / "state").write_text(json.dumps(state.value()))

    def holds(self) -> None:
        """The child will not end until ``hold`` is removed."""
        (self.folder / "held").unlink(missing_ok=True)
        (self.folder / "hold").touch()

    def goes_on(self) -> None:
        wait_for((self.folder / "held").exists, "the child")
        (self.folder / "hold").unlink()

    def select(self, instance: str) -> None:
        """Makes ``instance`` the selected one, as ``up`` does."""
        path = self.root / "var/lib/modulus/driver/selected"
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(".scratch")
        scratch.write_text(f"{instance}\n")
        scratch.replace(path)

    def enable(self, instance: str) -> None:
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / f"modulus@{instance}.service").symlink_to("/nowhere")

    def tell(self, kind: str, text: str = "") -> None:
        """Has the agent told of an event."""
        self.events.send(json.dumps([kind, text]).encode())

    @property
    def works(self) -> list[str]:
        """What the children were to do, in order."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "runs").read_text().splitlines()
            return [" ".join(line.split()[2:]) for line in lines if line != "ended"]
        return []

    @property
    def spare(self) -> list[str]:
        """What the agent has said of the time there is for other work."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "spare").read_text().splitlines()
        return []

    @property
    def runs(self) -> int:
        return len(self.works)

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
                    try:
                        status = self._run(PlainReporter(log), watchdog)
                    except BaseException:
                        traceback.print_exc(file=log)
            finally:
                os._exit(status)
        return self.pid

    def _run(self, reporter: PlainReporter, watchdog: float | None) -> int:
        loop = self.loop()
        status = InstanceStatus(
            self.root, NAME, Notifier(str(self.folder / "notify")), reporter
        )
        agent = Agent(self.task, loop, status, reporter)
        agent.attach(Spare(self.folder))
        driver = DriverPaths(self.root, self.task.instance.profile)

        def sources() -> tuple[EventSource, ...]:
            gpus = (PciMatch(0x10DE, 0x0302),)
            return (
                Pipe(loop, self.heard, agent.tell),
                SelectionWatch(driver, agent.tell),
                ModuleWatch(driver, loop, agent.tell, lambda: gpus, agent.deaf, self.uevents),
            )

        return agent.run(watchdog, sources)

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
        for channel in (self.kernel, self.ours, self.events, self.heard):
            channel.close()


@contextlib.contextmanager
def agent_bench(folder: Path) -> Iterator[Bench]:
    """A bench below ``folder``, taken down at the end."""
    (folder / "root").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.setblocking(False)
        made = Bench(folder, manager)
        try:
            yield made
        finally:
            made.close()
