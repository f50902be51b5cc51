"""What has come of an instance's builds since boot, counted for the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.status.state import KernelReady, parse_kernel_ready


@dataclass(frozen=True)
class BuildRecord:
    """The builds since boot; ``hits`` were in the store already.

    ``seconds`` is the time of the last build by kernel release. ``kernels`` are those that were
    installed after the last build. ``more`` holds the fields of another version of Modulus.
    """

    built: int = 0
    failed: int = 0
    hits: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    kernels: tuple[KernelReady, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def with_built(self, release: str, seconds: float) -> BuildRecord:
        """With one more build for the kernel ``release``."""
        return replace(
            self, built=self.built + 1, seconds={**self.seconds, release: round(seconds, 1)}
        )

    def with_failed(self) -> BuildRecord:
        """With one more failed build."""
        return replace(self, failed=self.failed + 1)

    def with_hit(self) -> BuildRecord:
        """With one more build that was in the store already."""
        return replace(self, hits=self.hits + 1)

    def kernels_now(
        self, installed: Sequence[str], running: str | None, active: bool
    ) -> tuple[KernelReady, ...]:
        """The ``installed`` kernels with what is known of them; a new one is not ready.

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
        own = asdict(self)
        return {**own.pop("more"), **own}


def parse_record(value: object) -> BuildRecord:
    """The record in JSON ``value``; ValueError where it is not one."""
    of = Fields(value, "the record of builds")
    return BuildRecord(
        of("built", forms.count),
        of("failed", forms.count),
        of("hits", forms.count),
        of("seconds", forms.map_of(forms.release, forms.seconds)),
        of("kernels", forms.list_of(parse_kernel_ready)),
        of.rest,
    )
