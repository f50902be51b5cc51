"""Proofs of builds: beside an entry, or in the cache for an entry of a read-only store.

Disproofs outlast the cache and the driver's removal: ``/var/lib/modulus/disproved/NAME.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from modulus.core.build.proof import (
    Disproof,
    Proof,
    condemned,
    disproofs_value,
    parse_disproofs,
    parse_proof,
    proof_value,
)
from modulus.host.files import atomic
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import make_dirs, replace_file, writing
from modulus.host.files.record import read_record
from modulus.host.generation.install import Generation
from modulus.host.report.clock import rfc3339

if TYPE_CHECKING:
    # A warm start looks at no store.
    from modulus.host.store.store import Entry

_NAME = "proof.json"
_FOLDER = "proofs"
_MOST = 16
"""How many disproofs are remembered."""


def read_proof(cache: Path, entry: Entry) -> Proof | None:
    """The proof of ``entry``, if it is of the entry's present modules; ``cache`` is the node's
    own."""
    proof = read_record(_path(cache, entry), lambda value: parse_proof(value, entry.key))
    return proof if proof and proof.modules == _modules(entry) else None


def write_proof(cache: Path, entry: Entry, result: str) -> None:
    """Records the ``result`` of building ``entry`` again; the caller keeps it in place."""
    path = _path(cache, entry)
    proof = Proof(entry.key, _modules(entry), result, rfc3339(time.time()))
    with writing(path):
        if not entry.own:
            path.parent.mkdir(exist_ok=True)
        atomic.write_json(path, proof_value(proof))


def read_disproofs(driver: DriverPaths) -> tuple[Disproof, ...]:
    """The builds of ``driver`` whose bits were found wrong on this node."""
    return read_record(driver.disproofs, parse_disproofs) or ()


def add_disproof(driver: DriverPaths, disproof: Disproof) -> None:
    """Remembers one more disproof. Of too many the oldest are forgotten, and before all others
    those whose recipe a newer disproof names too."""
    path = driver.disproofs
    of = (disproof.recipe, disproof.key, disproof.modules)
    others = (one for one in read_disproofs(driver) if (one.recipe, one.key, one.modules) != of)
    known = [disproof, *others]
    newest = {one.recipe: one for one in reversed(known)}
    most = sorted(known, key=lambda one: newest[one.recipe] is not one)[:_MOST]
    known = [one for one in known if one in most]
    with writing(path):
        make_dirs(path.parent)
        replace_file(path, json.dumps(disproofs_value(known), indent=2) + "\n")


def why_condemned(root: Path, generation: Generation) -> str | None:
    """Why the modules of ``generation`` are to be replaced, or None."""
    contents = generation.contents
    driver = DriverPaths(root, contents.identity.instance.profile)
    return condemned(contents, read_disproofs(driver))


def wrong_modules(driver: DriverPaths) -> frozenset[str]:
    """The sha256 of modules of ``driver`` that were found wrong on this node."""
    return frozenset(sha256 for one in read_disproofs(driver) for sha256 in one.modules)


def _modules(entry: Entry) -> tuple[str, ...]:
    return tuple(sorted(file.sha256 for file in entry.files))


def sound_first(root: Path, generations: Iterable[Generation]) -> tuple[Generation, ...]:
    """``generations`` in their order, but those whose modules are to be replaced come last."""
    return tuple(
        sorted(generations, key=lambda generation: why_condemned(root, generation) is not None)
    )


def _path(cache: Path, entry: Entry) -> Path:
    return entry.path / _NAME if entry.own else cache / _FOLDER / f"{entry.key}.json"
