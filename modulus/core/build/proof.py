"""The results of building an entry of the store once more, without shortcuts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modulus.core.build.revoked import revoked
from modulus.core.generation.generation import Contents
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.wording import some

SCHEMA = 1
EQUAL = "equal"
"""The modules have the same bits."""
UNSTABLE = "not reproducible"
"""The driver's own build does not give the same bits twice, so bits prove nothing."""

_MOST_READ = 1000


@dataclass(frozen=True)
class Proof:
    """The ``result`` of building the entry ``key`` again: EQUAL or UNSTABLE.

    ``modules`` are the sha256 of its modules, with which the new ones were compared.
    """

    key: str
    modules: tuple[str, ...]
    result: str
    at: str


@dataclass(frozen=True)
class Disproof:
    """A record that modules built by ``recipe`` have wrong bits.

    ``modules`` are their sha256; ``objects`` are what differs. ``more`` is what another version
    of Modulus has recorded.
    """

    recipe: str
    key: str
    modules: tuple[str, ...]
    objects: tuple[str, ...]
    at: str
    more: Mapping[str, Any] = field(default_factory=dict)


def proof_value(proof: Proof) -> dict[str, Any]:
    """A proof as JSON values."""
    return {
        "schema": SCHEMA,
        "key": proof.key,
        "modules": list(proof.modules),
        "result": proof.result,
        "at": proof.at,
    }


def parse_proof(value: object, key: str) -> Proof:
    """The proof of the entry ``key`` in JSON ``value``; ValueError for anything else."""
    of = Fields(value, "the proof")
    of("schema", forms.exactly(SCHEMA))
    of("key", forms.exactly(key))
    return Proof(
        key,
        of("modules", forms.list_of(forms.sha256)),
        of("result", forms.one_of(EQUAL, UNSTABLE)),
        of("at", forms.time),
    )


def disproofs_value(disproofs: Iterable[Disproof]) -> dict[str, Any]:
    """Disproofs as JSON values."""
    return {
        "schema": SCHEMA,
        "disproved": [
            {
                **one.more,
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
    """The disproofs in JSON values; ValueError for anything else."""
    of = Fields(value, "the record of disproofs")
    of("schema", forms.exactly(SCHEMA))
    return of("disproved", forms.list_of(_disproof, _MOST_READ))


def distrusted(recipe: str | None, disproofs: Iterable[Disproof]) -> bool:
    """Whether builds by ``recipe`` must no longer take shortcuts."""
    return any(one.recipe == recipe for one in disproofs)


def condemned(contents: Contents, disproofs: Iterable[Disproof]) -> str | None:
    """Why the modules of a generation are to be replaced, or None."""
    why = revoked(contents.identity.recipe)
    if why:
        return f"the recipe that they were built by is revoked: {why}"
    there = {file.sha256 for file in contents.tree.files}
    for one in disproofs:
        if there.intersection(one.modules):
            return f"built again without shortcuts they differ, in {some(one.objects)}"
    return None


def _disproof(value: object) -> Disproof:
    of = Fields(value, "a disproof")
    return Disproof(
        of("recipe", forms.word),
        of("key", forms.sha256),
        of("modules", forms.list_of(forms.sha256)),
        of("objects", forms.list_of(forms.line)),
        of("at", forms.time),
        of.rest,
    )
