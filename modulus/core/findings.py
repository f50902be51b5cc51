"""What is wrong with a driver: findings with a level, a severity, a cause and a fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

LEVELS = ("loaded", "nodes", "usable")
"""How far a driver is right, each including those before it (setting ``ready_when``)."""

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; ``fix`` is what to do about it.

    ``id`` is a short name with hyphens that stays the same, for scripts and metrics.
    """

    id: str
    level: str
    severity: str
    message: str
    cause: str
    fix: str

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def weighed(findings: Iterable[Finding], ready_when: str) -> tuple[Finding, ...]:
    """``findings``, with an error that keeps no driver from being ready as a warning."""
    counting = LEVELS[: LEVELS.index(ready_when) + 1]
    return tuple(
        replace(finding, severity="warning")
        if finding.severity == "error" and finding.level not in counting
        else finding
        for finding in findings
    )


def blocking(findings: Iterable[Finding], ready_when: str) -> tuple[Finding, ...]:
    """The errors at the level ``ready_when`` or below, which a driver must not have."""
    levels = LEVELS[: LEVELS.index(ready_when) + 1]
    return tuple(
        finding
        for finding in findings
        if finding.severity == "error" and finding.level in levels
    )
