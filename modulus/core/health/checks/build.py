"""Whether the driver's modules were built in a way that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from modulus.core.build.proof import UNSTABLE, Proof
from modulus.core.findings import Finding
from modulus.core.instance import Instance


def check_proof(instance: Instance, proof: Proof | None) -> Iterator[Finding]:
    """Whether a proof of the build could tell anything."""
    if proof and proof.result == UNSTABLE:
        yield Finding(
            "build-not-reproducible",
            "loaded",
            "warning",
            f"nobody can tell whether {instance} was built right",
            "the driver's own build does not give the same bits twice here",
            "have its profile say make.batch: false, which the next version is built by; "
            "this build stays what it is",
        )


def check_build(instance: Instance, condemned: str | None) -> Iterator[Finding]:
    """Whether the modules at work are to be replaced, and why."""
    if condemned:
        yield Finding(
            "build-condemned",
            "loaded",
            "warning",
            f"the modules of {instance} are to be built again",
            condemned,
            f"modulus build {instance}, then reboot",
        )
