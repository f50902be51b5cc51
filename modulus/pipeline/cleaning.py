"""Cleans the cache."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modulus.host.distribution.toolchain import outdated, toolchain_entries
from modulus.host.files import atomic
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import writing
from modulus.host.files.removal import remove_whole
from modulus.host.report.reporter import Reporter
from modulus.host.retention import Removed, collect_generations, homes
from modulus.host.reuse.object_cache import KeptObjects
from modulus.host.store.store import Entry
from modulus.pipeline.cache import Item, active_keys, item_of, why_revoked
from modulus.pipeline.site import Site


@dataclass(frozen=True)
class Bounds:
    """What a clean-up removes: items unused for ``max_age`` seconds, the longest unused above
    ``max_size`` bytes in all, or ``everything``; None is no bound."""

    max_age: float | None = None
    max_size: int | None = None
    keep_installed: bool = False
    everything: bool = False


def collect(site: Site, reporter: Reporter, bounds: Bounds) -> list[Item]:
    """Removes what nobody needs and what ``bounds`` exclude; returns what was removed.

    Headers and toolchains that can be found stay, and so do the builds of active generations.
    Objects go with the last build that needs them.
    """
    # First, and without the cache's lock: a process takes that one after a driver's lock.
    generations = [
        Item(one.path, one.made, one.size)
        for name in homes(site.root)
        for one in _collect_generations(site, reporter, name)
    ]
    with site.using_cache(reporter, alone=True), writing(site.cache):
        _sweep(site.cache)
        useless = [
            *site.store.bad(),
            *KeptObjects(site.cache).useless(),
            *_revoked_paths(site),
            *sorted(outdated(toolchain_entries(site.cache, ()))),
        ]
        items = sorted(
            (
                item
                for item in _collectable(site, bounds.keep_installed)
                if item.path not in useless
            ),
            key=lambda item: item.used,
        )
        gone = [
            *(item for path in useless if (item := item_of(path))),
            *_excluded(items, _objects(site, items), bounds, time.time()),
        ]
        for item in gone:
            remove_whole(item.path)
        # Only now: a kill in between leaves objects without builds, never the reverse.
        paths = (site.store.objects.path(name) for name in _unused(site))
        unused = [item for path in paths if (item := item_of(path))]
        for item in unused:
            item.path.unlink(missing_ok=True)
        for folder in (*site.cache.glob("builds/*/"), *site.cache.glob("compiled/*/")):
            with contextlib.suppress(OSError):  # It is not empty.
                folder.rmdir()
    return [*generations, *gone, *unused]


def _revoked_paths(site: Site) -> Iterator[Path]:
    """Builds of our own by revoked recipes, but those that active generations are made of."""
    active = active_keys(site)
    for entry in site.store.entries():
        if entry.own and why_revoked(entry) and not entry.key.startswith(active):
            yield entry.path


def _collect_generations(site: Site, reporter: Reporter, name: str) -> tuple[Removed, ...]:
    with site.lock(f"up-{name}", f"the driver {name}", reporter):
        return collect_generations(DriverPaths(site.root, name), reporter)


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

    Of ``objects``, with their sizes, those go that none of the other items needs.
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
    active = active_keys(site)
    kernels = site.host.kernels if keep_installed else ()
    for entry in site.store.entries():
        if entry.own and not entry.key.startswith(active) and entry.release not in kernels:
            item = item_of(entry.path, entry.path / "manifest.json")
            if item:
                yield replace(item, objects=entry.needs)
    for path in site.cache.glob("proofs/*"):
        if not path.name.startswith(active) and (item := item_of(path)):
            yield item
    for pattern in ("downloads/*", "userspace/*", "builds/*/*.failed.*", "compiled/*/*"):
        for path in site.cache.glob(pattern):
            used = path / "manifest.json" if pattern.startswith("compiled/") else None
            item = item_of(path, used)
            if item:
                yield item


def _sweep(cache: Path) -> None:
    """Removes what killed processes left, but no folder of a proof at work. A proof holds no
    lock of the cache, so its folders come and go meanwhile."""
    for folder in (cache, *cache.glob("*/"), *cache.glob("builds/*/")):
        with contextlib.suppress(FileNotFoundError):
            atomic.sweep_all(folder)
