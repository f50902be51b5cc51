"""All sources of an agent together."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast

import pytest

from modulus.agent.agent import Agent
from modulus.agent.show.instance_status import InstanceStatus
from modulus.agent.wiring import Wiring
from modulus.core.agent.events import KERNELS, Event
from modulus.core.instance import Instance
from modulus.host.bus.updates import NEED_REBOOT
from modulus.host.report.notify import Notifier
from modulus.host.report.reporter import PlainReporter, Reporter
from modulus.pipeline.site import Site
from tests.support.mainloop import HandLoop
from tests.support.quiet import QUIET


class Asked:
    """What of an agent is used at the start."""

    at_work = False
    stopping = False

    def __init__(self) -> None:
        self.told: list[str] = []

    def attach(self, _: object) -> None:
        pass

    def again(self) -> None:
        pass

    verify = again

    def tell(self, event: Event) -> None:
        self.told.append(event.text)

    def deaf(self, _: str) -> None:
        pass


def wire(
    site: Site, status: InstanceStatus, asked: Asked, reporter: Reporter = QUIET
) -> Wiring:
    agent = cast(Agent, asked)
    instance = Instance("gpu", "1.0")
    return Wiring(site, instance, reporter, HandLoop(), agent, status, None, verbose=False)


@pytest.mark.parametrize("wrong", [ValueError("a bug"), PermissionError(13, "no")])
def test_one_that_does_not_begin_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    begun: list[str] = []

    def fail(_: object) -> None:
        raise wrong

    monkeypatch.setattr("modulus.agent.watch.nodes.NodeWatch.start", fail)
    monkeypatch.setattr("modulus.agent.show.publisher.Publisher.start", fail)
    for name in ("watch.kernels.Kernels", "show.bus_link.BusLink"):
        monkeypatch.setattr(
            f"modulus.agent.{name}.start", lambda _, name=name: begun.append(name)
        )
    log = io.StringIO()
    site, reporter = Site(tmp_path, None, (), None), PlainReporter(log)
    status = InstanceStatus(tmp_path, "gpu-1.0", Notifier(None), reporter)
    sources = wire(site, status, Asked(), reporter)
    sources.start()
    sources.stop()
    assert begun == ["watch.kernels.Kernels", "show.bus_link.BusLink"]
    assert log.getvalue().count("not every change on the node is noticed") == 1


def test_nothing_is_proved_beside_other_work_and_with_no_word_in_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    (tmp_path / "var/cache/modulus/builds/6.1/a").mkdir(parents=True)
    site = Site(tmp_path, None, (), None)
    status = InstanceStatus(tmp_path, "gpu-1.0", Notifier(None), QUIET)
    asked = Asked()
    prover = wire(site, status, asked)._prover
    assert prover._news() == {"6.1/a"}
    # As where a kernel is installed while the driver is built.
    asked.at_work = True
    assert prover._news() == frozenset()
    assert "NOTIFY_SOCKET" not in prover._env


def test_what_is_new_of_kernels_is_looked_at_until_the_agent_ends(tmp_path: Path) -> None:
    log = io.StringIO()
    site, reporter = Site(tmp_path, None, (), None), PlainReporter(log)
    status = InstanceStatus(tmp_path, "gpu-1.0", Notifier(None), reporter)
    asked = Asked()
    wiring = wire(site, status, asked, reporter)

    def say() -> list[str]:
        log.seek(0)
        log.truncate()
        wiring._kernels_changed(Event(KERNELS, "6.2 came"))
        wiring._update(NEED_REBOOT, "9.1")
        return log.getvalue().splitlines()

    assert say() == [
        "watch: 6.2 came",
        "watch: version 9.1 of the operating system waits for a reboot",
    ]
    # A driver that could not be had is tried again.
    assert asked.told == ["6.2 came"]
    # A build that began now would be for nobody.
    asked.stopping = True
    assert say() == []
