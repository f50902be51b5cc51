"""Builds ahead: a real child, or a service manager that takes notes in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.kernel.upcoming import Kernel
from tests.support.mainloop import run_until, turn
from tests.support.prebuilding import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "root").mkdir()
    made = Bench(tmp_path)
    made.codes(0)
    yield made
    for queue in made.lanes:
        queue.stop()


def test_a_new_kernel_is_built_for_and_that_once(bench: Bench) -> None:
    queue = bench.queue()
    queue.look()
    assert queue.running and bench.hold.held
    bench.settle()
    assert bench.events == ["driver-1.0 is ready for 6.2"]
    assert not bench.hold.held
    queue.look()
    # Nor does the next agent.
    bench.queue().look()
    turn()
    assert len(bench.runs) == 1
    assert "build: driver-1.0 ahead of the next boot: 6.2" in bench.log.getvalue()


def test_it_is_in_no_hurry(bench: Bench) -> None:
    bench.queue().look()
    bench.settle()
    assert bench.runs == [str(min(19, os.getpriority(os.PRIO_PROCESS, 0) + 19))]


def test_where_only_the_running_kernel_is_installed_nothing_runs(bench: Bench) -> None:
    bench.kernels.clear()
    bench.queue().look()
    assert not bench.lanes[0].running and bench.runs == []


def test_what_comes_meanwhile_is_built_next_and_still_held(bench: Bench) -> None:
    (bench.folder / "hold").touch()
    queue = bench.queue()
    queue.look()
    run_until((bench.folder / "held").exists)
    bench.kernels["6.3"] = Kernel("b")
    queue.look("kernel 6.3 was installed")
    queue.look("once more")
    (bench.folder / "hold").unlink()
    run_until(lambda: len(bench.runs) == 2)
    assert bench.hold.held and "release" not in bench.hold.calls
    bench.settle()
    assert len(bench.runs) == 2
    assert bench.events == [
        "driver-1.0 is ready for 6.2",
        "driver-1.0 is ready for 6.2, 6.3",
    ]
    assert "watch: kernel 6.3 was installed" in bench.log.getvalue()


def test_a_failure_is_said_and_tried_again_in_time(bench: Bench) -> None:
    bench.codes(14)
    queue = bench.queue(poll=0.01)
    queue.look()
    bench.settle()
    text = bench.log.getvalue()
    assert "modulus: error: driver-1.0 is not ready for every installed kernel (6.2)" in text
    assert "modulus: hint: do not reboot yet" in text and "again in 1:00 min" in text
    assert not bench.hold.held
    # The next agent waits for the rest of the time.
    queue.stop()
    bench.queue(poll=0.01).look()
    turn()
    assert len(bench.runs) == 1
    bench.clock += 61
    run_until(lambda: len(bench.runs) == 2)
    bench.settle()
    assert bench.events[-1] == "driver-1.0 is ready for 6.2"


def test_other_inputs_are_tried_at_once(bench: Bench) -> None:
    bench.codes(15)
    queue = bench.queue(poll=0.01)
    queue.look()
    bench.settle()
    bench.kernels["6.2"] = Kernel("other settings")
    run_until(lambda: len(bench.runs) == 2)
    bench.settle()
    assert bench.events[-1] == "driver-1.0 is ready for 6.2"


def test_stopped_it_ends_its_child_and_begins_nothing(bench: Bench) -> None:
    (bench.folder / "hold").touch()
    queue = bench.queue()
    queue.look()
    run_until((bench.folder / "held").exists)
    queue.stop()
    run_until(lambda: not queue.running)
    queue.look()
    assert not queue.running and bench.events == [] and not bench.hold.held
