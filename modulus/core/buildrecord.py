"""What has come of an instance's builds since boot, counted for the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modulus.core.dataclass import asdict, dataclass, field, replace
from modulus.core.state import KernelReady


@dataclass(frozen=True)
class BuildRecord:
    """``hits`` were in the store already; ``seconds`` has the last build's by kernel release.

    ``kernels`` are those that were installed when it was last looked, after a build.
    """

    built: int = 0
    failed: int = 0
    hits: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    kernels: tuple[KernelReady, ...] = ()

    def with_built(self, release: str, seconds: float) -> BuildRecord:
        """With one more build for the kernel ``release``."""
        return replace(
            self, built=self.built + 1, seconds={**self.seconds, release: round(seconds, 1)}
        )

    def with_failed(self) -> BuildRecord:
        """With one more that failed."""
        return replace(self, failed=self.failed + 1)

    def with_hit(self) -> BuildRecord:
        """With one more that was there already."""
        return replace(self, hits=self.hits + 1)

    def kernels_now(
        self, installed: Sequence[str], running: str | None, active: bool
    ) -> tuple[KernelReady, ...]:
        """The ``installed`` kernels with what is known of them; what is new is not ready.

        The ``running`` one is ready if the instance is ``active``.
        """
        known = {kernel.release: kernel for kernel in self.kernels}
        return tuple(
            KernelReady(
                release,
                active if release == running else release in known and known[release].ready,
                len(installed) == 1 or (release in known and known[release].default_boot),
            )
            for release in installed
        )

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def parse_record(value: object) -> BuildRecord:
    """The record that JSON values tell of; an empty one for what is none."""
    match value:
        case {
            "built": int(built),
            "failed": int(failed),
            "hits": int(hits),
            "seconds": dict(seconds),
            "kernels": list(kernels),
        }:
            try:
                times = {str(release): float(time) for release, time in seconds.items()}
                ready = tuple(KernelReady(**kernel) for kernel in kernels)
            except (TypeError, ValueError):
                return BuildRecord()
            return BuildRecord(built, failed, hits, times, ready)
    return BuildRecord()
