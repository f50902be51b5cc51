"""Builds ahead while the package manager installs what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.agent.prebuild.record import KernelRecord
from tests.support.mainloop import run_until, turn
from tests.support.prebuilding import Bench

IMAGE = "linux-image-6.2"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "root").mkdir()
    made = Bench(tmp_path, unfinished=(IMAGE,))
    made.codes(0)
    yield made
    for queue in made.lanes:
        queue.stop()


def test_a_package_is_waited_for_and_reboots_are_held_meanwhile(bench: Bench) -> None:
    queue = bench.queue()
    queue.look()
    queue.look("kernel 6.2 was installed")
    turn()
    assert not queue.running and bench.hold.held
    assert bench.log.getvalue().count(f"build: driver-1.0: waits until {IMAGE} is ") == 1
    bench.unfinished = ()
    run_until(lambda: len(bench.runs) == 1)
    assert "release" not in bench.hold.calls
    bench.settle()
    assert bench.events == ["driver-1.0 is ready for 6.2"]
    assert not bench.hold.held


@pytest.mark.parametrize("later", [601.0, -3600.0])
def test_one_that_is_never_done_is_waited_for_once_and_no_longer(
    bench: Bench, later: float
) -> None:
    """Its scripts have failed, say; or the clock was set back."""
    bench.codes(13, 0)
    queue = bench.queue(poll=0.01)
    queue.look()
    bench.clock += 599
    queue.look()
    assert not queue.running and bench.runs == []
    bench.clock += later - 599
    run_until(lambda: len(bench.runs) == 1)
    bench.settle()
    bench.clock += 3600
    run_until(lambda: len(bench.runs) == 2)


def test_another_package_is_waited_for_anew(bench: Bench) -> None:
    queue = bench.queue()
    queue.look()
    bench.clock += 599
    bench.unfinished = ("linux-headers-6.2",)
    queue.look()
    bench.clock += 599
    queue.look()
    assert not queue.running and bench.runs == []


def test_stopped_it_waits_no_more(bench: Bench) -> None:
    queue = bench.queue()
    queue.look()
    queue.stop()
    bench.unfinished = ()
    turn()
    assert bench.runs == [] and not bench.hold.held


def test_a_build_by_hand_overtakes_a_failure(bench: Bench) -> None:
    bench.unfinished = ()
    bench.codes(13, 0)
    queue = bench.queue(poll=0.01)
    queue.look()
    bench.settle()
    record = bench.folder / "root/run/modulus/ahead/driver-1.0.json"
    assert '"code": 13' in record.read_text()
    KernelRecord(bench.folder / "root", "driver-1.0", print).built({"6.2", "6.1"})
    assert not record.exists()
    # The agent does not wait for its minute then.
    run_until(lambda: len(bench.runs) == 2)
    bench.settle()
    assert bench.events[-1] == "driver-1.0 is ready for 6.2"


def test_a_failure_goes_with_its_kernels(bench: Bench) -> None:
    bench.unfinished = ()
    bench.codes(13)
    queue = bench.queue()
    queue.look()
    bench.settle()
    bench.kernels.clear()
    queue.look("kernel 6.2 was removed")
    assert not (bench.folder / "root/run/modulus/ahead/driver-1.0.json").exists()


def test_what_is_done_waits_for_nothing(bench: Bench) -> None:
    bench.unfinished = ()
    queue = bench.queue()
    queue.look()
    bench.settle()
    bench.unfinished = (IMAGE,)
    queue.look()
    turn()
    assert len(bench.runs) == 1 and not bench.hold.held
