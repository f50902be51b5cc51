"""Metrics: their text, the record they count by, the file they are in."""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modulus.core.build.plan import Facts
from modulus.core.findings import Finding
from modulus.core.instance import Instance
from modulus.core.status.build_counts import BuildRecord, parse_record
from modulus.core.status.metrics import metrics_text
from modulus.core.status.state import Failure, KernelReady, State
from modulus.errors import BuildError, ConfigError, FetchError, LockedError, ModulusError
from modulus.host.status.build_counts import change_record, read_record
from modulus.host.status.metrics import remove_metrics, write_metrics
from modulus.pipeline.build.build import build
from modulus.pipeline.build.built import Built
from modulus.pipeline.build.job import Done, Job
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.quiet import QUIET

NAME = "driver-1.0"
KERNELS = (KernelReady("6.1", True, False), KernelReady("6.2", False, True))
RECORD = BuildRecord(3, 1, 4, {"6.2": 75.04, "6.1": 104.0}, KERNELS)


def lines(state: State, record: BuildRecord = BuildRecord()) -> list[str]:  # noqa: B008 - frozen
    text = metrics_text(state, record).splitlines()
    return [line for line in text if not line.startswith("#")]


def test_every_metric_is_there_with_its_labels() -> None:
    findings = (
        Finding("a", "nodes", "warning", "", "", ""),
        Finding("b", "nodes", "warning", "", "", ""),
        Finding("c", "usable", "error", "", "", ""),
    )
    found = lines(State(NAME, "watch", active=True, key="k", findings=findings), RECORD)
    assert [line for line in found if not line.startswith("modulus_phase")] == [
        'modulus_ready{instance="driver-1.0"} 1',
        'modulus_builds_total{instance="driver-1.0",result="built"} 3',
        'modulus_builds_total{instance="driver-1.0",result="failed"} 1',
        'modulus_build_seconds{instance="driver-1.0",kernel="6.1"} 104.0',
        'modulus_build_seconds{instance="driver-1.0",kernel="6.2"} 75.04',
        'modulus_cache_hits_total{instance="driver-1.0"} 4',
        'modulus_findings{instance="driver-1.0",severity="error"} 1',
        'modulus_findings{instance="driver-1.0",severity="warning"} 2',
        'modulus_findings{instance="driver-1.0",severity="info"} 0',
        'modulus_kernel_ready{instance="driver-1.0",kernel="6.1",default_boot="false"} 1',
        'modulus_kernel_ready{instance="driver-1.0",kernel="6.2",default_boot="true"} 0',
    ]
    assert [line for line in found if line.startswith("modulus_phase") and line[-1] != "0"] == [
        'modulus_phase{instance="driver-1.0",phase="watch"} 1'
    ]


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (State(NAME, None), 0),
        (State(NAME, "build", progress=0.5), 0),
        (State(NAME, "ready"), 1),
        (State(NAME, "wait", key="k"), 1),
        (State(NAME, "wait", key="k", error=Failure(14, "", "")), 0),
        (State(NAME, "failed", active=True, error=Failure(19, "", "")), 0),
    ],
)
def test_ready_is_what_the_unit_is(state: State, ready: int) -> None:
    assert lines(state)[0] == f'modulus_ready{{instance="driver-1.0"}} {ready}'


def test_what_has_no_samples_is_left_out() -> None:
    text = metrics_text(State(NAME, None), BuildRecord())
    assert "modulus_build_seconds" not in text
    assert "modulus_kernel_ready" not in text


def test_odd_names_are_escaped() -> None:
    odd = BuildRecord(seconds={'a"b\\c\nd': 1.0})
    assert r'kernel="a\"b\\c\nd"' in metrics_text(State(NAME, None), odd)


def test_large_counts_keep_all_digits() -> None:
    assert 'modulus_cache_hits_total{instance="driver-1.0"} 12345678' in lines(
        State(NAME, None), BuildRecord(hits=12345678)
    )


def test_installed_kernels_are_told_as_far_as_they_are_known() -> None:
    known = BuildRecord(kernels=KERNELS)
    assert known.kernels_now(("6.1", "6.2", "6.3"), "6.1", False) == (
        KernelReady("6.1", False, False),
        KernelReady("6.2", False, True),
        KernelReady("6.3", False, False),
    )
    assert BuildRecord().kernels_now(("6.1",), "6.1", True) == (KernelReady("6.1", True, True),)
    assert known.kernels_now((), None, True) == ()


def test_a_record_outlives_whoever_wrote_it(tmp_path: Path) -> None:
    assert read_record(tmp_path, NAME) == BuildRecord()
    change_record(tmp_path, NAME, BuildRecord.with_hit)
    change_record(tmp_path, NAME, BuildRecord.with_failed)
    change_record(tmp_path, NAME, lambda record: record.with_built("6.1", 2.04))
    change_record(tmp_path, "other-1.0", BuildRecord.with_hit)
    assert read_record(tmp_path, NAME) == BuildRecord(1, 1, 1, {"6.1": 2.0})
    assert parse_record(RECORD.value() | {"kernels": []}).built == 3


def test_no_count_is_lost_to_another(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(40):
            pool.submit(change_record, tmp_path, NAME, BuildRecord.with_hit)
    assert read_record(tmp_path, NAME).hits == 40


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"built": 1},
        RECORD.value() | {"seconds": {"6.1": "long"}},
        RECORD.value() | {"kernels": [{"release": "6.1"}]},
        RECORD.value() | {"hits": "many"},
        RECORD.value() | {"hits": True},
        RECORD.value() | {"built": -1},
        RECORD.value() | {"failed": 10**30},
        RECORD.value() | {"seconds": {"6.1": 1e400}},
        RECORD.value() | {"seconds": {"6.1": -1}},
        RECORD.value() | {"seconds": {"../6.1": 1}},
        RECORD.value() | {"seconds": []},
        RECORD.value() | {"kernels": [{"release": 6, "ready": 1, "default_boot": None}]},
        RECORD.value() | {"kernels": [["6.1"]]},
    ],
)
def test_what_is_no_record_counts_nothing(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError):
        parse_record(value)
    path = tmp_path / f"run/modulus/builds/{NAME}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(value))
    change_record(tmp_path, NAME, BuildRecord.with_hit)
    assert read_record(tmp_path, NAME) == BuildRecord(hits=1)


def test_what_another_version_has_recorded_stays(tmp_path: Path) -> None:
    path = tmp_path / f"run/modulus/builds/{NAME}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**RECORD.value(), "later": {"a": 1}}))
    change_record(tmp_path, NAME, BuildRecord.with_hit)
    assert json.loads(path.read_text())["later"] == {"a": 1}


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    change_record(tmp_path, NAME, BuildRecord.with_hit)
    assert read_record(tmp_path, NAME) == BuildRecord()


def test_the_file_is_whole_readable_and_alone(tmp_path: Path) -> None:
    folder = tmp_path / "srv/metrics"
    old = os.umask(0o077)
    try:
        write_metrics(tmp_path, "/srv/metrics", NAME, "first\n")
    finally:
        os.umask(old)
    path = folder / "modulus-driver-1.0.prom"
    first = path.stat()
    write_metrics(tmp_path, "/srv/metrics", NAME, "second\n")
    assert path.read_text() == "second\n"
    assert path.stat().st_ino != first.st_ino
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in folder.iterdir()] == [path.name]
    remove_metrics(tmp_path, "/srv/metrics", NAME)
    remove_metrics(tmp_path, "/srv/metrics", NAME)
    assert not path.exists()


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "srv").write_text("no folder")
    with pytest.raises(ConfigError, match="cannot write"):
        write_metrics(tmp_path, "/srv/metrics", NAME, "text\n")


_PREPARING, _MAKING = "preparing", "making"
_HIT = Built(None, "6.1", "open", True, 0.0)  # type: ignore[arg-type] # no entry is looked at
_MADE = Built(None, "6.1", "open", False, 7.5)  # type: ignore[arg-type] # as above


@pytest.mark.parametrize(
    ("step", "outcome", "counted"),
    [
        (_PREPARING, _HIT, BuildRecord(hits=1)),
        # Another process built it meanwhile.
        (_MAKING, _HIT, BuildRecord(hits=1)),
        (_MAKING, _MADE, BuildRecord(built=1, seconds={"6.1": 7.5})),
        (_PREPARING, FetchError("away", "look"), BuildRecord(failed=1)),
        (_MAKING, BuildError("compiler", "look"), BuildRecord(failed=1)),
        # Somebody else builds it, who counts.
        (_PREPARING, LockedError("held", "wait"), BuildRecord()),
        (_MAKING, LockedError("held", "wait"), BuildRecord()),
    ],
)
def test_whoever_builds_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    outcome: Built | ModulusError,
    counted: BuildRecord,
) -> None:
    def made(*_: object, **__: object) -> Built:
        if isinstance(outcome, ModulusError):
            raise outcome
        return outcome

    def provided(*_: object) -> Job:
        if step == _PREPARING:
            return Done(made())
        monkeypatch.setattr(Done, "make", made)
        return Done(_MADE)

    facts = Facts(*[None] * 12)  # type: ignore[arg-type]  # what they say does not matter
    monkeypatch.setattr("modulus.pipeline.build.prepare.gather", lambda *_: facts)
    monkeypatch.setattr("modulus.pipeline.build.prepare.stored", lambda *_: None)
    monkeypatch.setattr("modulus.pipeline.build.prepare.provide", provided)
    node = Node(Site(tmp_path, None, (), 0), Instance("driver", "1.0"))
    with contextlib.suppress(ModulusError):
        build(node, QUIET, "6.1")
    assert read_record(tmp_path, NAME) == counted
