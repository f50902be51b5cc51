"""A system to work on: its root, its settings and its store, before any driver is named."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from modulus.core.config.settings import DEFAULTS, Settings
from modulus.host.config.load import load_settings
from modulus.host.files.lock import LOCKS, locked
from modulus.host.files.paths import resolve
from modulus.host.files.place import below, writing
from modulus.host.kernel.probe import Host, probe
from modulus.host.report.reporter import Reporter

if TYPE_CHECKING:
    from modulus.host.store.store import Store


@dataclass(frozen=True)
class Site:
    """What the options of every command name; ``driver`` picks settings under ``drivers``."""

    root: Path
    config: Path | None
    assignments: tuple[str, ...]
    lock_timeout: float | None
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
        """The cache's folder, which may be deleted at any time; ConfigError where it cannot be
        there."""
        from modulus.host.store.folder import cache_folder

        path = self.settings.cache_dir
        return cache_folder(self.root, path, usual=path == DEFAULTS["cache_dir"])

    @cached_property
    def stores(self) -> tuple[Path, ...]:
        """The read-only stores that are looked in before anything is built.

        A store that others than root can change, or that is not there, is passed over.
        """
        return tuple(
            resolve(self.root, store.path)
            for store in self.settings.stores
            if store.trusted or store.path not in self._unusable
        )

    def tell_store_problems(self, reporter: Reporter) -> None:
        """Says which stores are passed over and why, but of those that are not there. A command
        that looks into stores does so once."""
        for problem in filter(None, self._unusable.values()):
            reporter.error(problem)

    @cached_property
    def _unusable(self) -> dict[str, str]:
        """The stores that are passed over, and what to say of each; "" for nothing."""
        found = {
            store.path: self._problem(store.path)
            for store in self.settings.stores
            if not store.trusted
        }
        return {path: problem for path, problem in found.items() if problem is not None}

    def _problem(self, store: str) -> str | None:
        """What keeps ``store`` from being used; None where all of it is root's alone to change,
        "" where it is not there."""
        from modulus.host.files.trust import objection

        try:
            problem = objection(self.root, store)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            return (
                f"the store {store} is not used: {error.strerror}; correct the path, or mount "
                "what belongs there"
            )
        return problem and (
            f"the store {store} is not used, since others may change what it says: "
            f"{problem}; have all of it belong to root, for nobody else to write, or "
            "set trusted: true for it"
        )

    @cached_property
    def store(self) -> Store:
        """The builds of this system, and of its read-only stores."""
        from modulus.host.store.store import Store

        return Store(self.cache, self.stores)

    @cached_property
    def host(self) -> Host:
        """What this system is."""
        return probe(self.root)

    @contextlib.contextmanager
    def using_cache(self, reporter: Reporter, *, alone: bool = False) -> Iterator[None]:
        """Keeps a clean-up out while the cache is used, or all others out while it cleans."""
        with self.lock("store", "the store", reporter, shared=not alone):
            yield

    @contextlib.contextmanager
    def lock(
        self, name: str, what: str, reporter: Reporter, *, shared: bool = False
    ) -> Iterator[None]:
        """Holds one of this system's locks."""
        # Not in the cache, which may be deleted, or read-only, while they are held.
        path = below(self.root, LOCKS) / name
        with contextlib.ExitStack() as stack:
            with writing(path):
                stack.enter_context(
                    locked(path, what, reporter, self.lock_timeout, shared=shared)
                )
            yield
