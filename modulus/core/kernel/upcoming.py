"""Which installed kernels still want a build before they are booted, and when to try."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modulus.core.agent.backoff import PERMANENT, Backoff
from modulus.core.record import forms
from modulus.core.record.forms import Fields

BACKOFF = Backoff(first=60.0, longest=6 * 3600.0, longest_fetch=600.0)
"""Longer waits than for the driver that is wanted now. A permanent failure is said again after
each longest wait: somebody has to see it before the next boot."""


@dataclass(frozen=True)
class Kernel:
    """An installed kernel: ``inputs``, a digest of what its modules are built from, and the
    names of the builds that are ``stored`` for it."""

    inputs: str
    stored: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Tried:
    """The result of the last build for ``kernels``: its exit ``code``, the ``failures`` in a
    row, and when it ended (``at``, in seconds since 1970)."""

    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    code: int = 0
    failures: int = 0
    at: float = 0.0

    def missing(self, kernels: Mapping[str, Kernel]) -> tuple[str, ...]:
        """The releases among ``kernels`` that are not known to be done."""
        return tuple(
            release for release, kernel in kernels.items() if not self._is_done(release, kernel)
        )

    def wait(self, kernels: Mapping[str, Kernel], now: float) -> float:
        """The seconds until ``kernels`` are worth a try; 0 unless just these have failed."""
        if self.code == 0 or any(
            release not in self.kernels or self.kernels[release].inputs != kernel.inputs
            for release, kernel in kernels.items()
        ):
            return 0.0
        delay = self.delay
        # A clock that was set back makes no wait longer.
        return min(delay, max(0.0, self.at + delay - now))

    def is_overtaken(self, built: Collection[str]) -> bool:
        """Whether it is a failure, and all its kernels are ``built`` by now."""
        return self.code != 0 and self.kernels.keys() <= set(built)

    @property
    def delay(self) -> float:
        """Seconds from the last failure to the next try with the same inputs."""
        if self.code in PERMANENT:
            return BACKOFF.longest
        return BACKOFF.delay(self.failures, self.code)

    def then(self, kernels: Mapping[str, Kernel], code: int, now: float) -> Tried:
        """The record after one more build for ``kernels``, which ended with ``code``."""
        failures = 0
        if code:
            failures = 1 + (self.failures if self.wait(kernels, self.at) else 0)
        return Tried(dict(kernels), code, failures, now)

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "kernels": {
                release: {"inputs": kernel.inputs, "stored": sorted(kernel.stored)}
                for release, kernel in self.kernels.items()
            },
            "code": self.code,
            "failures": self.failures,
            "at": self.at,
        }

    def _is_done(self, release: str, kernel: Kernel) -> bool:
        known = self.kernels.get(release)
        return (
            self.code == 0
            and known is not None
            and known.inputs == kernel.inputs
            # Other builds may have come, but none may have gone: it may be the needed one.
            and known.stored <= kernel.stored
        )


def parse_tried(value: object) -> Tried:
    """The record in JSON values; ValueError for anything else."""
    of = Fields(value, "the record of the last build ahead")
    return Tried(
        of("kernels", forms.map_of(forms.release, _kernel)),
        of("code", forms.number(-255, 255)),
        of("failures", forms.count),
        of("at", forms.seconds),
    )


def _kernel(value: object) -> Kernel:
    of = Fields(value, "a kernel")
    return Kernel(of("inputs", forms.line), frozenset(of("stored", forms.list_of(forms.line))))


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """How kernels changed from ``old`` to ``new``, facts by release; "" for no change."""
    told = (
        ("installed", new.keys() - old.keys()),
        ("removed", old.keys() - new.keys()),
        ("changed, or its headers", {r for r in new.keys() & old.keys() if old[r] != new[r]}),
    )
    parts = [
        f"kernel {release} was {what}"
        for what, releases in told
        for release in sorted(releases)
    ]
    return ", ".join(parts)


def by_urgency(releases: Sequence[str], default: str | None) -> tuple[str, ...]:
    """``releases`` (oldest first): the ``default`` of the next boot, then the newest first."""
    newest = reversed([release for release in releases if release != default])
    return (*(release for release in releases if release == default), *newest)
