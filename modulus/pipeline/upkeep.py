"""The cache looked at and cleaned."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modulus.core.dataclass import dataclass, replace
from modulus.core.generation import key_of
from modulus.core.keys import SHORT
from modulus.core.revoked import recipe_of, revoked
from modulus.core.tree import PLAIN
from modulus.errors import IntegrityError, UsageError
from modulus.host import files
from modulus.host.clock import rfc3339
from modulus.host.generations import Removed, collect_generations, homes
from modulus.host.install import active_names
from modulus.host.kept import KeptObjects
from modulus.host.place import writing
from modulus.host.proofs import read_proof
from modulus.host.provided import check_provided
from modulus.host.removal import remove_whole
from modulus.host.store import Entry
from modulus.pipeline.site import Site


@dataclass(frozen=True)
class Bounds:
    """What a clean-up removes: what was unused for ``max_age`` seconds, the longest unused
    above ``max_size`` bytes in all, or ``everything``; None is no bound."""

    max_age: float | None = None
    max_size: int | None = None
    keep_installed: bool = False
    everything: bool = False


@dataclass(frozen=True)
class Item:
    """Something in the cache; ``used`` in seconds since the epoch, ``size`` in bytes.

    ``objects`` are those that it needs, which may be needed by others and count on their own.
    """

    path: Path
    used: float
    size: int
    objects: frozenset[str] = frozenset()


def listing(site: Site) -> list[dict[str, Any]]:
    """Every build as the contract's JSON, nothing hashed, and what was set aside."""
    active = _active_keys(site)
    found = [
        _value(site, entry, entry.damage(deep=False), active) for entry in site.store.entries()
    ]
    found += [_bad_value(path) for path in site.store.bad()]
    return [value for value in found if value]


def verify(site: Site) -> list[dict[str, Any]]:
    """Every build with every hash checked; bad ones of our own are set aside."""
    found = []
    with site.using_cache():
        active = _active_keys(site)
        for entry in site.store.entries():
            problem = entry.damage()
            value = _value(site, entry, problem, active)
            if problem and entry.own:
                with site.lock(entry.key, f"the build {entry.key}"):
                    aside = site.store.set_aside(entry)
                value = _bad_value(aside) if aside else None
            found.append(value)
    return [value for value in found if value]


def verify_provided(site: Site) -> list[dict[str, Any]]:
    """Every header tree and toolchain, all of it hashed; bad ones of our own are set aside."""
    with site.using_cache():
        held = check_provided(site.cache, site.stores, site.reporter, site.lock_timeout)
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


def extract(site: Site, prefix: str, target: Path) -> tuple[Path, ...]:
    """Writes the modules of the build whose key begins with ``prefix`` into ``target``.

    Raises IntegrityError, and writes nothing, where a hash does not hold.
    """
    with site.using_cache():
        named = site.store.lookup(prefix)
        entry = site.store.get(named.key, named.release)
        if entry is None:
            raise IntegrityError(
                f"the build {prefix} is damaged", "build it again: modulus build INSTANCE"
            )
        why = _revoked(entry)
        if why:
            site.reporter.warn(f"{entry.key[:SHORT]} was built by a revoked recipe: {why}")
        for path in (target, *(target / name for name in entry.modules)):
            if path.exists() and path.is_dir() != (path == target):
                raise UsageError(f"{path} is in the way", "name another folder")
        with writing(target):
            target.mkdir(parents=True, exist_ok=True)
            with files.scratch(target, "extract") as scratch:
                for name, module in entry.modules.items():
                    module.write(scratch / name, PLAIN)
                return tuple((scratch / name).replace(target / name) for name in entry.modules)


def collect(site: Site, bounds: Bounds) -> list[Item]:
    """Removes what nobody needs and what ``bounds`` exclude; returns what was removed.

    Headers and toolchains stay, and so do the builds of active generations. Objects go with
    the last build that needs them.
    """
    # First, and not with the cache's lock held: who has a driver's takes that one after it.
    generations = [
        Item(one.path, one.made, one.size)
        for name in homes(site.root)
        for one in _collect_generations(site, name)
    ]
    with site.using_cache(alone=True), writing(site.cache):
        _sweep(site.cache)
        useless = [*site.store.bad(), *KeptObjects(site.cache).useless(), *_revoked_paths(site)]
        items = sorted(
            (
                item
                for item in _collectable(site, bounds.keep_installed)
                if item.path not in useless
            ),
            key=lambda item: item.used,
        )
        gone = [
            *(item for path in useless if (item := _item(path))),
            *_excluded(items, _objects(site, items), bounds, time.time()),
        ]
        for item in gone:
            remove_whole(item.path)
        # Only now: a kill in between leaves objects without builds, never the reverse.
        paths = (site.store.objects.path(name) for name in _unused(site))
        unused = [item for path in paths if (item := _item(path))]
        for item in unused:
            item.path.unlink(missing_ok=True)
        for folder in (*site.cache.glob("builds/*/"), *site.cache.glob("compiled/*/")):
            with contextlib.suppress(OSError):  # It is not empty.
                folder.rmdir()
    return [*generations, *gone, *unused]


def _revoked(entry: Entry) -> str | None:
    """Why the recipe of a build is revoked, if it is."""
    return revoked(recipe_of(entry.manifest.inputs)) if entry.manifest else None


def _revoked_paths(site: Site) -> Iterator[Path]:
    """Builds of our own by revoked recipes, but those that active generations are made of."""
    active = _active_keys(site)
    for entry in site.store.entries():
        if entry.own and _revoked(entry) and not entry.key.startswith(active):
            yield entry.path


def _collect_generations(site: Site, name: str) -> tuple[Removed, ...]:
    with site.lock(f"up-{name}", f"the driver {name}"):
        return collect_generations(site.root, name, site.reporter)


def _objects(site: Site, items: Sequence[Item]) -> dict[str, int]:
    """The sizes of the objects that go if all of ``items`` do."""
    removed = {item.path for item in items}
    kept = _needed(entry for entry in site.store.entries() if entry.path not in removed)
    needed = frozenset[str]().union(*(item.objects for item in items)) - kept
    return {name: size for name, size in site.store.objects.all().items() if name in needed}


def _unused(site: Site) -> list[str]:
    return sorted(site.store.objects.all().keys() - _needed(site.store.entries()))


def _needed(entries: Iterable[Entry]) -> frozenset[str]:
    """What entries of our own need; those of other stores have objects of their own."""
    return frozenset[str]().union(*(entry.needs for entry in entries if entry.own))


def _excluded(
    items: Sequence[Item], objects: Mapping[str, int], bounds: Bounds, now: float
) -> Iterator[Item]:
    """Those of ``items``, the longest unused first, that are out of bounds.

    Of ``objects``, by their sizes, those go that none of the other items needs.
    """
    users = Counter(name for item in items for name in item.objects if name in objects)
    total = sum(item.size for item in items) + sum(objects.values())
    for item in items:
        old = bounds.max_age is not None and now - item.used > bounds.max_age
        large = bounds.max_size is not None and total > bounds.max_size
        if bounds.everything or old or large:
            users.subtract(item.objects & objects.keys())
            last = [name for name in item.objects & objects.keys() if not users[name]]
            total -= item.size + sum(objects[name] for name in last)
            yield item


def _collectable(site: Site, keep_installed: bool) -> Iterator[Item]:
    active = _active_keys(site)
    kernels = site.host.kernels if keep_installed else ()
    for entry in site.store.entries():
        if entry.own and not entry.key.startswith(active) and entry.release not in kernels:
            item = _item(entry.path, entry.path / "manifest.json")
            if item:
                yield replace(item, objects=entry.needs)
    for pattern in ("downloads/*", "userspace/*", "builds/*/*.failed.log", "compiled/*/*"):
        for path in site.cache.glob(pattern):
            used = path / "manifest.json" if pattern.startswith("compiled/") else None
            item = _item(path, used)
            if item:
                yield item


def _sweep(cache: Path) -> None:
    """Removes what killed processes left. Nobody else uses the cache now."""
    for folder in (cache, *cache.glob("*/"), *cache.glob("builds/*/")):
        for path in folder.glob(".*.????????"):
            files.remove_tree(path)


def _item(path: Path, used: Path | None = None) -> Item | None:
    """``path`` with the time of ``used``; None where it is gone."""
    try:
        status = path.stat()
        with contextlib.suppress(OSError):
            status = (used or path).stat()
    except OSError:
        return None
    size = files.tree_size(path) if path.is_dir() else status.st_size
    return Item(path, status.st_mtime, size)


def _active_keys(site: Site) -> tuple[str, ...]:
    """How the keys begin of the builds that active generations are made of."""
    return tuple(key for name in active_names(site.root) if (key := key_of(name)))


def _value(
    site: Site, entry: Entry, problem: str | None, active: tuple[str, ...]
) -> dict[str, Any] | None:
    item, manifest = _item(entry.path, entry.path / "manifest.json"), entry.manifest
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
        "revoked": _revoked(entry),
        "path": str(entry.path),
    }


def _bad_value(path: Path) -> dict[str, Any] | None:
    """What is told of something that was set aside, whose manifest is not to be believed."""
    item = _item(path)
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
