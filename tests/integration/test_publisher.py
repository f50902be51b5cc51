"""The agent on a private bus: a person and `modulus status` ask it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modulus.agent.show.bus_link import BusLink
from modulus.core.findings import Finding
from modulus.core.instance import Instance
from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.state import Failure, State
from modulus.host.bus.endpoint import open_connection
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import write_selected
from modulus.host.status.build_counts import change_record
from modulus.host.status.files import write_state
from tests.support.busline import AGENT, NAME, OBJECT, OWN, Asked, Background
from tests.support.privatebus import PrivateBus, Steps

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning"),
]


def test_a_person_can_read_what_is_on_the_bus(bus: PrivateBus, root: Path) -> None:
    bus.start()
    asked = Asked(root)
    finding = Finding("gpu-dead", "usable", "error", "a GPU is dead", "fell off", "reseat it")
    state = State(
        "driver-1.0", "build", progress=0.43, selected=True, findings=(finding,),
        error=Failure(14, "compiler", "look"),
    )  # fmt: skip
    write_state(root, state)
    write_selected(DriverPaths(root, "driver"), OWN)
    asks = (
        ("introspect", NAME, OBJECT, AGENT),
        ("get-property", NAME, OBJECT, AGENT, "Findings"),
        ("call", NAME, OBJECT, AGENT, "Verify"),
        ("call", NAME, OBJECT, AGENT, "Rebuild"),
        ("get-property", NAME, OBJECT, AGENT, "None"),
    )
    answers: list[Background] = []

    def steps() -> Steps:
        yield lambda: asked.line.attached
        for words in asks:
            answers.append(Background(bus.busctl(*words)))
            yield answers[-1]

    asked.run(steps())
    shown, findings, verify, rebuild, nothing = (answer.output for answer in answers)
    members = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[1:]}
    assert {name: words[:3] for name, words in members.items()} == {
        ".Rebuild": ["method", "-", "-"],
        ".Verify": ["method", "-", "-"],
        ".Active": ["property", "s", '""'],
        ".Error": ["property", "s", '"compiler"'],
        ".ErrorCode": ["property", "i", "14"],
        ".Hint": ["property", "s", '"look"'],
        ".Findings": ["property", "aa{sv}", "1"],
        ".Generation": ["property", "s", '""'],
        ".HoldSeconds": ["property", "d", "-1"],
        ".Instance": ["property", "s", '"driver-1.0"'],
        ".Kernels": ["property", "a(sb)", "1"],
        ".Key": ["property", "s", '""'],
        ".Phase": ["property", "s", '"build"'],
        ".Progress": ["property", "d", "0.43"],
        ".SecondsLeft": ["property", "d", "-1"],
        ".Selected": ["property", "s", '"driver-1.0"'],
        ".Since": ["property", "s", '""'],
        ".PhaseChanged": ["signal", "s", "-"],
    }
    assert members[".Kernels"][2:5] == ["1", '"6.1.0-1-amd64"', "false"]
    assert members[".Phase"][-1] == "emits-change"
    assert '"id" s "gpu-dead" "level" s "usable" "severity" s "error"' in findings
    assert (verify, rebuild) == ("", "")
    assert "None" in nothing
    assert asked.asked == ["verify", "rebuild"]


def test_changes_are_told(bus: PrivateBus, root: Path) -> None:
    bus.start()
    asked = Asked(root)
    told: list[tuple[str, Any]] = []

    def steps() -> Steps:
        yield lambda: asked.line.attached
        other = open_connection(bus.address).pydbus
        with other.subscribe(object=OBJECT, signal_fired=lambda *s: told.append(s[3:])):
            ask = Background(bus.busctl("get-property", NAME, OBJECT, AGENT, "Phase"))
            yield ask
            write_state(root, State("driver-1.0", "build", progress=0.1))
            yield lambda: told[-1:] == [("PhaseChanged", ("build",))]
            write_state(root, State("driver-1.0", "build", progress=0.2))
            yield lambda: len(told) == 3
            change_record(root, "driver-1.0", BuildRecord.with_hit)
            write_selected(DriverPaths(root, "driver"), Instance("driver", "2.0"))
            asked.publisher.refresh()
            yield lambda: len(told) == 4
        other.con.close_sync(None)

    asked.run(steps())
    changes = {"Phase": "build", "Progress": 0.1}
    assert told == [
        ("PropertiesChanged", (AGENT, changes, [])),
        ("PhaseChanged", ("build",)),
        ("PropertiesChanged", (AGENT, {"Progress": 0.2}, [])),
        ("PropertiesChanged", (AGENT, {"Selected": "driver-2.0"}, [])),
    ]


RECORD = {"built": 1, "failed": 0, "hits": 0, "seconds": {}, "kernels": []}


@pytest.mark.parametrize(
    "change",
    [
        {"kernels": [{"release": 6, "ready": [], "default_boot": None}]},
        {"kernels": [{"release": "6.1", "ready": {}, "default_boot": {}}]},
        {"kernels": [6.1]},
        {"seconds": {"6.1": 10**400}},
        {"seconds": {"6.1": "nan"}, "hits": 10**400},
    ],
)
def test_a_record_of_any_kind_is_outlived(
    bus: PrivateBus, root: Path, change: dict[str, Any]
) -> None:
    bus.start()
    asked = Asked(root, "/srv/metrics")
    record = root / "run/modulus/builds/driver-1.0.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({**RECORD, **change}))
    (root / "lib/modules/6.1.0-1-amd64").rename(root / "lib/modules/6.1-\udcff")

    def steps() -> Steps:
        yield lambda: asked.line.attached
        write_state(root, State("driver-1.0", "build"))
        asked.publisher.refresh()
        record.with_name("new").write_text(json.dumps(RECORD))
        record.with_name("new").rename(record)
        yield lambda: asked.publisher._service.Phase == "build"
        kernels = Background(bus.busctl("get-property", NAME, OBJECT, AGENT, "Kernels"))
        yield kernels
        assert kernels.output == 'a(sb) 1 "6.1-?" false\n'

    asked.run(steps())


def test_it_is_there_again_after_the_bus_was_lost(bus: PrivateBus, root: Path) -> None:
    bus.start()
    asked = Asked(root)
    write_state(root, State("driver-1.0", "wait"))

    def steps() -> Steps:
        yield lambda: asked.line.attached
        bus.stop()
        # Nobody is there to tell.
        write_state(root, State("driver-1.0", "verify"))
        yield lambda: asked.line.lost
        bus.start()
        yield lambda: len(asked.line.attached) == 2
        phase = Background(bus.busctl("get-property", NAME, OBJECT, AGENT, "Phase"))
        yield phase
        assert phase.output == 's "verify"\n'

    asked.run(steps())


def test_only_one_agent_has_the_name(
    bus: PrivateBus, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.start()
    first, second = Asked(root), Asked(root)

    second.line.line = BusLink(first.line.loop, Path("/"), second.line._on, second.line._off)

    def steps() -> Steps:
        yield lambda: first.line.attached
        second.line.line.start()
        yield lambda: second.line.attached
        second.line.line.stop()

    first.run(steps())
    assert "cannot be asked over the bus: cannot be org.modulus1.driver_2d1_2e0" in (
        capsys.readouterr().err
    )


def test_status_asks_the_agent(bus: PrivateBus, root: Path) -> None:
    """The state is below another root, so that only the agent can have told of it."""
    bus.start()
    asked = Asked(root)
    finding = Finding("odd", "nodes", "warning", "odd", "because", "fix it")
    write_state(root, State("driver-1.0", "build", 0.43, 61.0, findings=(finding,)))
    command = [sys.executable, "-m", "modulus", "status", "driver-1.0", "--json"]
    told: list[Background] = []

    def steps() -> Steps:
        yield lambda: asked.line.attached
        told.append(Background(command, bus.env))
        yield told[-1]

    asked.run(steps())
    told.append(Background(command, bus.env))
    while not told[-1]():
        time.sleep(0.05)
    found, left = (json.loads(each.output)["instances"][0] for each in told)
    assert (found["phase"], found["progress"], found["eta_s"]) == ("build", 0.43, 61.0)
    assert [each["id"] for each in found["findings"]] == ["odd"]
    assert (left["phase"], left["findings"]) == (None, [])
