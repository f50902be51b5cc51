"""Recipes that made wrong code; what they built is not used where that can be helped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIRST = "1"
"""The recipe of builds and generations that record no digest of a recipe."""

REVOKED: Mapping[str, str] = {
    FIRST: "it compiled cut-down sources, and lost tracepoints and updates of bit-fields",
}
"""Why recipes are revoked, by digest."""


def revoked(recipe: str | None) -> str | None:
    """Why builds by ``recipe`` are not to be used any more, or None."""
    return REVOKED.get(FIRST if recipe is None else recipe)


def recipe_of(inputs: Mapping[str, Any]) -> str:
    """The recipe among the inputs of a build's key; older recipes had a number."""
    return str(inputs.get("recipe", FIRST))
