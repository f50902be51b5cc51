"""What becomes of an agent's part by a fallback, a driver in use, or a repair."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.agent.backoff import Backoff
from modulus.core.agent.events import KERNELS, MODULES, WRONG
from modulus.core.agent.rate import Rate
from modulus.core.instance import Instance, parse_instance
from modulus.core.status.state import Failure, State
from modulus.host.generation.selected import stands_by
from modulus.host.status.files import failures_file
from tests.support.agentbench import NAME, Bench, agent_bench, wait_for

OTHER = "driver-2.0"
READY = State(NAME, "ready", active=True, selected=True, generation="g-1")
BUSY = State(NAME, "failed", error=Failure(17, "driver-2.0 is in use by ps", "end it"))


def instance(text: str) -> Instance:
    return parse_instance(text, "")


MINE = instance(NAME)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with agent_bench(tmp_path) as made:
        yield made


def test_a_fallback_ends_the_unit_for_good(bench: Bench) -> None:
    bench.select(OTHER)
    bench.codes(21)
    bench.leaves(State(NAME, "failed", error=Failure(21, "it is back", "see it")))
    bench.start()
    assert bench.ended() == 21
    assert bench.told() == ["STATUS=failed: it is back (next: see it)"]


def test_a_fallback_that_selects_the_old_one(bench: Bench) -> None:
    bench.codes(21)
    bench.select(NAME)
    bench.leaves(State(NAME, "failed", error=Failure(21, "it is back", "see it")))
    (bench.folder / "up-selects").write_text(f"{OTHER}\n")
    bench.start()
    assert bench.ended() == 21
    assert bench.state.phase == "failed"
    # Or a person who starts it again would have it stand by.
    assert not stands_by(bench.root, MINE)


def test_a_fallback_within_one_instance_is_kept_right(bench: Bench) -> None:
    """An older generation of it works: the next ``up`` has nothing to do but to take it."""
    bench.select(NAME)
    bench.codes(21, 0)
    bench.start()
    wait_for(lambda: "READY=1" in "".join(bench.told()))
    assert bench.works == ["up", "up"]


def test_a_fallback_within_one_instance_that_ends_in_another_is_no_loop(bench: Bench) -> None:
    bench.select(NAME)
    bench.codes(21, 21)
    bench.start()
    assert bench.ended() == 21
    assert bench.works == ["up", "up"]


def test_pending(bench: Bench) -> None:
    """The driver in use is another one, and works."""
    bench.codes(17, 0)
    bench.leaves(BUSY)
    bench.start()
    bench.tells("READY=1\nSTATUS=pending: driver-2.0 is in use by ps")
    wait_for(lambda: bench.state.phase == "watch")
    assert bench.state.error is None and bench.state.selected and not bench.state.active
    assert [finding.id for finding in bench.state.findings] == ["switch-pending"]
    # That one is kept right; when it is gone it is this one's turn.
    bench.codes(17, 0, 0, 19)
    bench.tell(WRONG, "a node is gone")
    wait_for(lambda: bench.runs == 3)
    bench.tell(MODULES, "remove driver")
    wait_for(lambda: bench.runs == 5)
    assert bench.works == ["up", "repair pending", "repair pending", "repair pending", "up"]


def test_in_use_with_no_driver_at_work(bench: Bench) -> None:
    bench.codes(17, 19)
    bench.leaves(BUSY)
    bench.start()
    bench.tells("STATUS=wait: 1:00 min to the next try, for driver-2.0 is in use by ps")
    assert not any("READY" in message for message in bench.told())


def test_pending_until_it_is_free(bench: Bench) -> None:
    bench.task = replace(bench.task, waits=lambda: True, backoff=Backoff(0.05))
    bench.codes(17, 0, 17, 0)
    bench.leaves(BUSY)
    bench.start()
    wait_for(lambda: bench.runs == 5)
    assert bench.works == ["up", "repair pending"] * 2 + ["up"]


def test_a_repair(bench: Bench) -> None:
    bench.leaves(READY)
    bench.start()
    bench.tells("READY=1")
    wait_for(lambda: bench.state.phase == "watch")
    before = bench.state
    (bench.folder / "state").unlink()
    bench.told().clear()
    bench.tell(WRONG, "/dev/driver0 is missing")
    bench.tells("STATUS=ready: g-1")
    assert bench.works == ["up", "repair"]
    assert bench.state == before
    assert "watch: /dev/driver0 is missing" in bench.log()


def test_a_repair_that_takes_more(bench: Bench) -> None:
    bench.codes(0, 19)
    bench.start()
    bench.tells("READY=1")
    bench.tell(MODULES, "remove driver")
    wait_for(lambda: bench.works == ["up", "repair", "up"])


def test_a_repair_that_cannot_be(bench: Bench) -> None:
    bench.codes(0, 16, 20)
    bench.task = replace(bench.task, backoff=Backoff(0.05))
    bench.start()
    bench.tells("READY=1")
    bench.tell(WRONG)
    wait_for(lambda: "the repair ended with status 16" in bench.log())
    # Another one has the lock: again after a while.
    bench.tell(WRONG)
    wait_for(lambda: bench.runs == 4)
    assert bench.works == ["up", "repair", "repair", "repair"]
    assert not any("failed" in message for message in bench.told())


def test_a_storm_of_events_is_little_work(bench: Bench) -> None:
    bench.leaves(READY)
    bench.start()
    bench.tells("READY=1")
    for number in range(300):
        bench.tell(WRONG, f"event {number}")
        if number % 10 == 0:
            time.sleep(0.005)
    time.sleep(0.2)
    assert 1 < bench.runs <= 10
    bench.codes()
    assert bench.stop() == 0


def test_repairs_while_it_is_brought_up_wait(bench: Bench) -> None:
    bench.holds()
    bench.start()
    wait_for((bench.folder / "held").exists)
    for kind in (WRONG, MODULES, KERNELS):
        bench.tell(kind)
    bench.goes_on()
    bench.tells("READY=1")
    time.sleep(0.2)
    assert bench.works == ["up"], "it does all of that itself"


def test_there_is_time_for_other_work_between_its_own(bench: Bench) -> None:
    bench.start()
    wait_for(lambda: bench.spare == ["give way", "look"])
    assert bench.pid
    os.kill(bench.pid, signal.SIGHUP)
    # Asked for all, and again when it is done.
    wait_for(lambda: bench.spare[2:] == ["give way", "look", "look"])
    # A repair takes no time to speak of.
    bench.tell(WRONG)
    wait_for(lambda: bench.works == ["up", "up", "repair"])
    assert len(bench.spare) == 5


def test_news_end_a_wait(bench: Bench) -> None:
    """But not sooner than after the first pause."""
    bench.task = replace(bench.task, backoff=Backoff(0.05, 3600), poll=3600)
    record = failures_file(bench.root, NAME)
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"failures": 30, "inputs": bench.task.inputs()}))
    bench.codes(14)
    bench.start()
    bench.tells("STATUS=wait: 60:00 min to the next try")
    bench.tell(WRONG)
    bench.tell(MODULES)
    bench.tells("READY=1")
    assert bench.runs == 2


def test_so_often_and_no_more() -> None:
    rate = Rate(2, 10)
    assert rate.wait(0) == 0
    rate.done(0)
    rate.done(4)
    assert rate.wait(5) == 5
    assert rate.wait(10) == 0
    rate.done(10)
    assert rate.wait(11) == 3
