"""Looks at the cache: every build, what is wrong with it, and its modules."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.build.revoked import recipe_of, revoked
from modulus.core.generation.generation import key_of
from modulus.core.store.keys import SHORT
from modulus.core.tree import PLAIN
from modulus.errors import IntegrityError, UsageError
from modulus.host.build.proofs import read_proof
from modulus.host.distribution.provided import check_provided
from modulus.host.files import atomic
from modulus.host.files.place import writing
from modulus.host.generation.install import active_names
from modulus.host.report.clock import rfc3339
from modulus.host.report.reporter import Reporter
from modulus.host.store.store import Entry
from modulus.pipeline.site import Site


@dataclass(frozen=True)
class Item:
    """Something in the cache; ``used`` in seconds since the epoch, ``size`` in bytes.

    ``objects`` are those that it needs; others may need them too, so they count on their own.
    """

    path: Path
    used: float
    size: int
    objects: frozenset[str] = frozenset()


def listing(site: Site) -> list[dict[str, Any]]:
    """Every build as the contract's JSON, nothing hashed, and what was set aside."""
    active = active_keys(site)
    found = [
        _value(site, entry, entry.damage(deep=False), active) for entry in site.store.entries()
    ]
    found += [_bad_value(path) for path in site.store.bad()]
    return [value for value in found if value]


def verify(site: Site, reporter: Reporter) -> list[dict[str, Any]]:
    """Every build with every hash checked; bad ones of our own are set aside."""
    found = []
    with site.using_cache(reporter):
        active = active_keys(site)
        for entry in site.store.entries():
            problem = entry.damage()
            value = _value(site, entry, problem, active)
            if problem and entry.own:
                with site.lock(entry.key, f"the build {entry.key}", reporter):
                    aside = site.store.set_aside(entry)
                value = _bad_value(aside) if aside else None
            found.append(value)
    return [value for value in found if value]


def verify_provided(site: Site, reporter: Reporter) -> list[dict[str, Any]]:
    """Every header tree and toolchain, all of it hashed; bad ones of our own are set aside."""
    with site.using_cache(reporter):
        held = check_provided(site.cache, site.stores, reporter, site.lock_timeout)
        return [
            {
                "kind": one.kind,
                "id": one.id,
                "state": "bad" if one.problem else "good",
                "problem": one.problem,
                "path": str(one.path),
            }
            for one in held
        ]


def extract(site: Site, reporter: Reporter, prefix: str, target: Path) -> tuple[Path, ...]:
    """Writes the modules of the build whose key begins with ``prefix`` into ``target``.

    Raises IntegrityError, and writes nothing, where a hash does not hold.
    """
    with site.using_cache(reporter):
        named = site.store.lookup(prefix)
        entry = site.store.get(named.key, named.release, reporter)
        if entry is None:
            raise IntegrityError(
                f"the build {prefix} is damaged", "build it again: modulus build INSTANCE"
            )
        why = why_revoked(entry)
        if why:
            reporter.warn(f"{entry.key[:SHORT]} was built by a revoked recipe: {why}")
        for path in (target, *(target / name for name in entry.modules)):
            if path.exists() and path.is_dir() != (path == target):
                raise UsageError(f"{path} is in the way", "name another folder")
        with writing(target):
            target.mkdir(parents=True, exist_ok=True)
            with atomic.scratch(target, "extract") as scratch:
                for name, module in entry.modules.items():
                    module.write(scratch / name, PLAIN)
                return tuple((scratch / name).replace(target / name) for name in entry.modules)


def item_of(path: Path, used: Path | None = None) -> Item | None:
    """``path`` with the time of ``used``; None where it is gone."""
    try:
        status = path.stat()
        with contextlib.suppress(OSError):
            status = (used or path).stat()
    except OSError:
        return None
    size = atomic.tree_size(path) if path.is_dir() else status.st_size
    return Item(path, status.st_mtime, size)


def why_revoked(entry: Entry) -> str | None:
    """Why the recipe of a build is revoked, if it is."""
    return revoked(recipe_of(entry.manifest.inputs)) if entry.manifest else None


def active_keys(site: Site) -> tuple[str, ...]:
    """How the keys of builds begin that active generations are made of."""
    return tuple(key for name in active_names(site.root) if (key := key_of(name)))


def _value(
    site: Site, entry: Entry, problem: str | None, active: tuple[str, ...]
) -> dict[str, Any] | None:
    item, manifest = item_of(entry.path, entry.path / "manifest.json"), entry.manifest
    proof = read_proof(site.cache, entry)
    if item is None:
        return None
    return {
        "key": entry.key,
        "instance": manifest and manifest.instance,
        "kernel": entry.release,
        "flavour": manifest and manifest.flavour,
        "size": item.size + entry.objects_size,
        "created": manifest and manifest.finished,
        "used": rfc3339(item.used),
        "state": "bad" if problem else "good",
        "protected": entry.key.startswith(active),
        "made": manifest and manifest.made,
        "proof": proof.result if proof else None,
        "revoked": why_revoked(entry),
        "path": str(entry.path),
    }


def _bad_value(path: Path) -> dict[str, Any] | None:
    """The value of something that was set aside: its manifest is not to be believed."""
    item = item_of(path)
    if item is None:
        return None
    return {
        "key": path.name.partition(".")[0],
        "instance": None,
        "kernel": None,
        "flavour": None,
        "size": item.size,
        "created": None,
        "used": rfc3339(item.used),
        "state": "bad",
        "protected": False,
        "made": None,
        "proof": None,
        "revoked": None,
        "path": str(path),
    }
