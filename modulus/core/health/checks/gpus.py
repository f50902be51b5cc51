"""Whether the driver has all of the node's GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modulus.core.findings import Finding
from modulus.core.gpu.census import Census


def check_bound(census: Census, bound: Sequence[str], require_all: bool) -> Iterator[Finding]:
    """The usable GPUs without a driver, beside those of the addresses ``bound`` that have ours.

    A warning, an error with ``require_all``.
    """
    for gpu in census.usable if bound else ():
        if gpu.driver is None:
            yield Finding(
                "gpu-unbound",
                "usable",
                "error" if require_all else "warning",
                f"GPU {gpu} has no driver",
                "the driver is not for this GPU, or could not start it",
                "modulus plan says which GPUs it is not for, journalctl -k -b what it said",
            )
