"""What comes of building an entry of the store once more, without a shortcut."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from modulus.core.dataclass import dataclass
from modulus.core.generation import Contents
from modulus.core.revoked import revoked

SCHEMA = 1
EQUAL = "equal"
"""The modules have the same bits."""
UNSTABLE = "not reproducible"
"""The driver's own build does not give the same bits twice, so they prove nothing."""

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Proof:
    """That the entry ``key`` was built again, and came out EQUAL or is UNSTABLE."""

    key: str
    result: str
    at: str


@dataclass(frozen=True)
class Disproof:
    """That modules built by ``recipe`` have wrong bits: theirs are the sha256 ``modules``,
    and ``objects`` are what differs."""

    recipe: str
    key: str
    modules: tuple[str, ...]
    objects: tuple[str, ...]
    at: str


def proof_value(proof: Proof) -> dict[str, Any]:
    """A proof as JSON values."""
    return {"schema": SCHEMA, "key": proof.key, "result": proof.result, "at": proof.at}


def parse_proof(value: object, key: str) -> Proof | None:
    """The proof of the entry ``key`` that JSON values tell of; None where they are none."""
    match value:
        case {"schema": 1, "key": str(of), "result": str(result), "at": str(at)} if (
            of == key and result in (EQUAL, UNSTABLE)
        ):
            return Proof(of, result, at)
    return None


def disproofs_value(disproofs: Iterable[Disproof]) -> dict[str, Any]:
    """Disproofs as JSON values."""
    return {
        "schema": SCHEMA,
        "disproved": [
            {
                "recipe": one.recipe,
                "key": one.key,
                "modules": list(one.modules),
                "objects": list(one.objects),
                "at": one.at,
            }
            for one in disproofs
        ],
    }


def parse_disproofs(value: object) -> tuple[Disproof, ...]:
    """The disproofs that JSON values tell of; those that are none are left out."""
    match value:
        case {"schema": 1, "disproved": list(entries)}:
            return tuple(one for one in map(_disproof, entries) if one)
    return ()


def distrusted(recipe: str | None, disproofs: Iterable[Disproof]) -> bool:
    """Whether builds by ``recipe`` take no shortcut any more."""
    return any(one.recipe == recipe for one in disproofs)


def condemned(contents: Contents, disproofs: Iterable[Disproof]) -> str | None:
    """Why the modules of a generation are to be replaced, or None."""
    why = revoked(contents.identity.recipe)
    if why:
        return f"the recipe that they were built by is revoked: {why}"
    there = {file.sha256 for file in contents.tree.files}
    for one in disproofs:
        if there.intersection(one.modules):
            return f"built again without shortcuts they differ, in {_some(one.objects)}"
    return None


def _some(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _disproof(value: object) -> Disproof | None:
    match value:
        case {
            "recipe": str(recipe),
            "key": str(key),
            "modules": list(modules),
            "objects": list(objects),
            "at": str(at),
        } if isinstance(value, Mapping) and all(
            isinstance(one, str) and _SHA256.fullmatch(one) for one in modules
        ):
            return Disproof(recipe, key, tuple(modules), tuple(map(str, objects)), at)
    return None
