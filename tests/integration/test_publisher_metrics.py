"""The metrics that an agent writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.state import Failure, State
from modulus.host.status.build_counts import change_record
from modulus.host.status.files import write_state
from tests.support.busline import Asked
from tests.support.headertrees import write
from tests.support.privatebus import PrivateBus, Steps

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning"),
]


def test_metrics_follow_the_state_and_the_builds(bus: PrivateBus, root: Path) -> None:
    path = root / "srv/metrics/modulus-driver-1.0.prom"
    asked = Asked(root, "/srv/metrics")
    own = 'instance="driver-1.0"'

    def has(*lines: str) -> Callable[[], bool]:
        return lambda: set(lines) <= set(path.read_text().splitlines())

    def steps() -> Steps:
        yield has(f"modulus_ready{{{own}}} 0")
        write_state(root, State("driver-1.0", "watch", active=True, key="k"))
        yield has(f"modulus_ready{{{own}}} 1", f'modulus_phase{{{own},phase="watch"}} 1')
        change_record(root, "driver-1.0", BuildRecord.with_hit)
        change_record(root, "driver-1.0", lambda record: record.with_built("6.1", 7.5))
        yield has(
            f"modulus_cache_hits_total{{{own}}} 1",
            f'modulus_builds_total{{{own},result="built"}} 1',
            f'modulus_build_seconds{{{own},kernel="6.1"}} 7.5',
            f'modulus_kernel_ready{{{own},kernel="6.1.0-1-amd64",default_boot="true"}} 0',
        )

    asked.run(steps())
    assert list(path.parent.iterdir()) == []
    failing = Asked(root, "/srv/metrics")

    def failure() -> Steps:
        # The counts of before.
        yield has(f"modulus_cache_hits_total{{{own}}} 1")
        write_state(root, State("driver-1.0", "failed", error=Failure(16, "refused", "sign")))
        yield has(f'modulus_phase{{{own},phase="failed"}} 1')

    failing.run(failure())
    assert path.exists()


def test_counts_that_somebody_damaged_are_none_and_told_once(
    bus: PrivateBus, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "srv/metrics/modulus-driver-1.0.prom"
    counts = root / "run/modulus/builds/driver-1.0.json"
    asked = Asked(root, "/srv/metrics")
    damaged: list[dict[str, object]] = [
        {"built": "many"},
        {"kernels": [{"release": 6, "ready": "yes", "default_boot": None}]},
        {"seconds": {"6.1": 1e400}},
        {"hits": 1 << 80},
    ]

    def shows(phase: str) -> Callable[[], bool]:
        line = f'modulus_phase{{instance="driver-1.0",phase="{phase}"}} 1'
        return lambda: path.exists() and line in path.read_text()

    def steps() -> Steps:
        for change in damaged:
            write(counts, json.dumps({**BuildRecord().value(), **change}))
            for phase in ("build", "watch"):
                write_state(root, State("driver-1.0", phase))
                yield shows(phase)
        assert 'modulus_cache_hits_total{instance="driver-1.0"} 0' in path.read_text()

    asked.run(steps())
    assert capsys.readouterr().err.count("is damaged and not used") == len(damaged)


def test_metrics_that_cannot_be_written_are_told_once(
    bus: PrivateBus, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "srv").write_text("no folder")
    asked = Asked(root, "/srv/metrics")

    def steps() -> Steps:
        write_state(root, State("driver-1.0", "build"))
        yield lambda: asked.publisher._service.Phase == "build"

    asked.run(steps())
    assert capsys.readouterr().err.count("the state is not shown to others: cannot write") == 1
