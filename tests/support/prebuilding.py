"""The queue of builds ahead, with stand-ins for systemd's units and for the hold."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modulus.agent.loop import Loop
from modulus.agent.prebuild.queue import Prebuild, PrebuildQueue
from modulus.agent.prebuild.reboot_hold import RebootHold
from modulus.agent.prebuild.record import KernelRecord
from modulus.agent.prebuild.setup import next_kernels
from modulus.core.agent.events import BUILD, Event
from modulus.core.instance import Instance
from modulus.core.kernel.upcoming import Kernel
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.site import Site
from tests.support.mainloop import run_until

CHILD = """
cd "$1"
echo "$(nice)" >>runs
[ ! -e hold ] || { : >held; while [ -e hold ]; do sleep 0.01; done; }
run=$(wc -l <runs)
exit "$(sed -n "${run}p" codes)"
"""


class FakeHold(RebootHold):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.wanted: list[float] = []

    def want(self, seconds: float) -> None:
        self.wanted.append(seconds)

    def take(self, why: str) -> None:
        self.calls.append("take")

    def release(self) -> None:
        self.calls.append("release")

    @property
    def held(self) -> bool:
        return self.calls[-1:] == ["take"]


@dataclass
class Bench:
    folder: Path
    kernels: dict[str, Kernel] = field(default_factory=lambda: {"6.2": Kernel("a")})
    events: list[str] = field(default_factory=list)
    log: io.StringIO = field(default_factory=io.StringIO)
    hold: FakeHold = field(default_factory=FakeHold)
    clock: float = 1000.0
    unfinished: tuple[str, ...] = ()
    lanes: list[PrebuildQueue] = field(default_factory=list)

    def queue(
        self,
        unit: str | None = None,
        poll: float = 60.0,
        hold_reboot: Callable[[], float | None] = lambda: None,
    ) -> PrebuildQueue:
        (self.folder / "child").write_text(CHILD)

        def tell(event: Event) -> None:
            assert event.kind == BUILD
            self.events.append(event.text)

        ahead = Prebuild(
            "driver-1.0",
            unit,
            ("/bin/sh", str(self.folder / "child"), str(self.folder)),
            {},
            lambda: dict(self.kernels),
            poll,
            hold_reboot,
            lambda _releases: self.unfinished,
            glance=0.01,
        )
        record = KernelRecord(self.folder / "root", "driver-1.0", self._complain)
        reporter = PlainReporter(self.log)
        queue = PrebuildQueue(
            ahead, record, Loop(), reporter, tell, self.hold, lambda: self.clock
        )
        self.lanes.append(queue)
        return queue

    def codes(self, *codes: int) -> None:
        (self.folder / "codes").write_text("".join(f"{code}\n" for code in (*codes, 0)))

    @property
    def runs(self) -> list[str]:
        path = self.folder / "runs"
        return path.read_text().splitlines() if path.exists() else []

    def settle(self) -> None:
        """Runs until no build is under way."""
        run_until(lambda: not any(queue.running for queue in self.lanes))

    def _complain(self, error: Exception) -> None:
        raise error


def ahead(root: Path) -> Mapping[str, Kernel]:
    return next_kernels(Site(root, None, (), None), Instance("driver", "1.0"))
