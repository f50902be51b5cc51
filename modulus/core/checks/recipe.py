"""Whether the driver was built by a recipe that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from modulus.core.findings import Finding
from modulus.core.generation import Identity
from modulus.core.revoked import revoked


def check_recipe(identity: Identity) -> Iterator[Finding]:
    """Whether what a generation is made of was built by a recipe that is revoked since."""
    why = revoked(identity.recipe)
    if why:
        yield Finding(
            "recipe-revoked",
            "loaded",
            "warning",
            f"the modules of {identity.instance} are to be built again",
            f"the recipe that they were built by is revoked: {why}",
            f"modulus build {identity.instance}, then reboot",
        )
