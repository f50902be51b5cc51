"""The cache looked at and cleaned."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.errors import IntegrityError, UsageError
from modulus.host import files
from modulus.host.install import DRIVERS, active_generation
from modulus.host.place import writing
from modulus.host.rootpath import resolve
from modulus.host.store import Entry, damage
from modulus.pipeline.site import Site


@dataclass(frozen=True)
class Limits:
    """What a clean-up may keep: seconds since the last use, bytes in all; None for no limit."""

    max_age: float | None = None
    max_size: int | None = None
    keep_installed: bool = False
    everything: bool = False


@dataclass(frozen=True)
class Item:
    """Something in the cache; ``used`` in seconds since the epoch, ``size`` in bytes."""

    path: Path
    used: float
    size: int


def listing(site: Site, *, deep: bool = False) -> list[dict[str, Any]]:
    """Every build as the contract's JSON; ``deep`` checks all hashes, else only sizes."""
    protected = _protected_keys(site)
    found = [_value(entry, deep, protected) for entry in site.store.entries()]
    return found + [_bad_value(path) for path in site.store.bad()]


def verify(site: Site) -> list[dict[str, Any]]:
    """``listing`` with every hash checked; bad entries of our own are set aside."""
    with site.using_cache():
        found = listing(site, deep=True)
        for entry in list(site.store.entries()):
            if entry.own and any(
                value["path"] == str(entry.path) and value["state"] == "bad" for value in found
            ):
                site.store.set_aside(entry.path)
    return found


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
        if target.exists() and not target.is_dir():
            raise UsageError(
                f"{target} is not a folder", "name one, or one that does not exist"
            )
        with writing(target):
            target.mkdir(parents=True, exist_ok=True)
            with files.scratch(target, "extract") as scratch:
                for name, path in entry.modules.items():
                    shutil.copyfile(path, scratch / name)
                return tuple((scratch / name).replace(target / name) for name in entry.modules)


def collect(site: Site, limits: Limits) -> list[Item]:
    """Removes what nobody needs and what ``limits`` exclude; returns what was removed.

    Headers and toolchains stay, and so do the builds of active generations.
    """
    with site.using_cache(alone=True), writing(site.cache):
        _sweep(site.cache)
        items = sorted(_collectable(site, limits.keep_installed), key=lambda item: item.used)
        gone = [
            *(_item(path) for path in site.store.bad()),
            *_excluded(items, limits, time.time()),
        ]
        for item in gone:
            files.remove_tree(item.path)
    return gone


def _excluded(items: Sequence[Item], limits: Limits, now: float) -> Iterator[Item]:
    """Those of ``items``, the longest unused first, that the limits exclude."""
    total = sum(item.size for item in items)
    for item in items:
        old = limits.max_age is not None and now - item.used > limits.max_age
        large = limits.max_size is not None and total > limits.max_size
        if limits.everything or old or large:
            total -= item.size
            yield item


def _collectable(site: Site, keep_installed: bool) -> Iterator[Item]:
    protected = _protected_keys(site)
    kernels = site.host.kernels if keep_installed else ()
    for entry in site.store.entries():
        if entry.own and entry.key not in protected and entry.release not in kernels:
            yield Item(entry.path, entry.used, entry.size)
    for pattern in ("downloads/*", "userspace/*", "builds/*/*.failed.log"):
        yield from map(_item, site.cache.glob(pattern))


def _sweep(cache: Path) -> None:
    """Removes what killed processes left. Nobody else uses the cache now."""
    for folder in (cache, *cache.glob("*/"), *cache.glob("builds/*/")):
        for path in folder.glob(".*.????????"):
            if path.is_dir():
                files.remove_tree(path)


def _item(path: Path) -> Item:
    status = path.stat()
    size = files.tree_size(path) if path.is_dir() else status.st_size
    return Item(path, status.st_mtime, size)


def _protected_keys(site: Site) -> frozenset[str]:
    """The keys of the builds that active generations are made of."""
    drivers = resolve(site.root, DRIVERS)
    active = (
        active_generation(site.root, path.name)
        for path in drivers.glob("*")
        if path.is_symlink()
    )
    return frozenset(generation.contents.key for generation in active if generation)


def _value(entry: Entry, deep: bool, protected: frozenset[str]) -> dict[str, Any]:
    return {
        "key": entry.key,
        "instance": entry.instance,
        "kernel": entry.release,
        "flavour": entry.manifest.get("flavour"),
        "size": entry.size,
        "created": entry.manifest.get("finished"),
        "used": _time(entry.used),
        "state": "bad" if damage(entry, deep=deep) else "good",
        "protected": entry.key in protected,
        "path": str(entry.path),
    }


def _bad_value(path: Path) -> dict[str, Any]:
    manifest = files.read_json(path / "manifest.json")
    known = manifest if isinstance(manifest, dict) else {}
    item = _item(path)
    return {
        "key": path.name.partition(".")[0],
        "instance": known.get("instance"),
        "kernel": known.get("kernel"),
        "flavour": known.get("flavour"),
        "size": item.size,
        "created": known.get("finished"),
        "used": _time(item.used),
        "state": "bad",
        "protected": False,
        "path": str(path),
    }


def _time(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
