"""Metrics of an instance, in the text format of Prometheus.

https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from modulus.core.findings import SEVERITIES
from modulus.core.status.boot_hold import READY, stand
from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.state import PHASES, State


@dataclass(frozen=True)
class _Metric:
    name: str
    kind: str
    help: str
    samples: Iterable[tuple[dict[str, str], float]]


def metrics_text(state: State, record: BuildRecord) -> str:
    """All metrics of the instance of ``state``; ``record`` counts its builds."""
    return "".join(_lines(state.instance, _metrics(state, record)))


def _metrics(state: State, record: BuildRecord) -> tuple[_Metric, ...]:
    ready = stand(state.instance, None, state).verdict == READY
    severities = [finding.severity for finding in state.findings]
    return (
        _Metric(
            "modulus_ready",
            "gauge",
            "Whether the instance is READY: right, built and waiting for a GPU, or standby.",
            [({}, ready)],
        ),
        _Metric(
            "modulus_phase",
            "gauge",
            "What the instance is doing: 1 for the phase that it is in.",
            [({"phase": phase}, phase == state.phase) for phase in PHASES],
        ),
        _Metric(
            "modulus_builds_total",
            "counter",
            "Builds since boot, by their result.",
            [({"result": "built"}, record.built), ({"result": "failed"}, record.failed)],
        ),
        _Metric(
            "modulus_build_seconds",
            "gauge",
            "How long the last build for a kernel took.",
            [({"kernel": name}, time) for name, time in sorted(record.seconds.items())],
        ),
        _Metric(
            "modulus_cache_hits_total",
            "counter",
            "Builds that were in the store already, since boot.",
            [({}, record.hits)],
        ),
        _Metric(
            "modulus_findings",
            "gauge",
            "How many things are found wrong with the driver, by severity.",
            [({"severity": name}, severities.count(name)) for name in SEVERITIES],
        ),
        _Metric(
            "modulus_kernel_ready",
            "gauge",
            "Whether the driver is there for an installed kernel without a build.",
            [
                ({"kernel": each.release, "default_boot": _word(each.default_boot)}, each.ready)
                for each in record.kernels
            ],
        ),
    )


def _lines(instance: str, metrics: Iterable[_Metric]) -> Iterator[str]:
    for metric in metrics:
        samples = [
            ({"instance": instance, **labels}, value) for labels, value in metric.samples
        ]
        if samples:
            yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
        for labels, value in samples:
            pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            yield f"{metric.name}{{{pairs}}} {+value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _word(value: bool) -> str:
    return "true" if value else "false"
