"""A system to work on: its root, its settings and its store, before any driver is named."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from modulus.core.config.settings import Settings
from modulus.host.config.load import load_settings
from modulus.host.files.lock import LOCKS, locked
from modulus.host.files.paths import resolve
from modulus.host.files.place import below, check_inside, writing
from modulus.host.kernel.probe import Host, probe
from modulus.host.report.reporter import Reporter

if TYPE_CHECKING:
    from modulus.host.store.store import Store

CACHE = "/var/cache/modulus"


@dataclass(frozen=True)
class Site:
    """What the options of every command name; ``driver`` picks settings under ``drivers``."""

    root: Path
    config: Path | None
    assignments: tuple[str, ...]
    lock_timeout: float | None
    reporter: Reporter
    driver: str | None = None

    @cached_property
    def settings(self) -> Settings:
        """The settings in force."""
        return load_settings(
            self.root,
            config=self.config,
            environ=os.environ,
            assignments=self.assignments,
            driver=self.driver,
        )

    @cached_property
    def cache(self) -> Path:
        """The cache's folder, which may be deleted at any time; ConfigError where it is not all
        in the root."""
        cache = below(self.root, CACHE)
        check_inside(self.root, cache)
        return cache

    @cached_property
    def stores(self) -> tuple[Path, ...]:
        """The read-only stores that are looked in before anything is built.

        A store that others than root can change, or that is not there, is passed over.
        """
        return tuple(
            resolve(self.root, store.path)
            for store in self.settings.stores
            if store.trusted or self._may_be_believed(store.path)
        )

    def _may_be_believed(self, store: str) -> bool:
        """Whether all of ``store`` is root's alone to change; reports it if not."""
        from modulus.host.files.trust import objection

        try:
            problem = objection(self.root, store)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self.reporter.error(
                f"the store {store} is not used: {error.strerror}; correct the path, or mount "
                "what belongs there"
            )
            return False
        if problem:
            self.reporter.error(
                f"the store {store} is not used, since others may change what it says: "
                f"{problem}; have all of it belong to root, for nobody else to write, or "
                "set trusted: true for it"
            )
        return problem is None

    @cached_property
    def store(self) -> Store:
        """The builds of this system, and of its read-only stores."""
        from modulus.host.store.store import Store

        return Store(self.cache, self.stores, self.reporter)

    @cached_property
    def host(self) -> Host:
        """What this system is."""
        return probe(self.root)

    def telling(self, reporter: Reporter) -> Site:
        """A copy, with all it has read already, that reports to ``reporter``."""
        other = copy.copy(self)
        object.__setattr__(other, "reporter", reporter)
        vars(other).pop("store", None)
        return other

    @contextlib.contextmanager
    def using_cache(self, *, alone: bool = False) -> Iterator[None]:
        """Keeps a clean-up out while the cache is used, or all others out while it cleans."""
        with self.lock("store", "the store", shared=not alone):
            yield

    @contextlib.contextmanager
    def lock(self, name: str, what: str, *, shared: bool = False) -> Iterator[None]:
        """Holds one of this system's locks."""
        # Not in the cache, which may be deleted, or read-only, while they are held.
        path = below(self.root, LOCKS) / name
        with contextlib.ExitStack() as stack:
            with writing(path):
                stack.enter_context(
                    locked(path, what, self.reporter, self.lock_timeout, shared=shared)
                )
            yield
