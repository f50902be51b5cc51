"""The ways to a build: by the compiler from the driver's package, or from what was compiled
for a twin of its kernel."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from modulus.core.build.recipe import Recipe, plainly, takes_shortcuts
from modulus.core.store.manifest import TOGETHER, TWIN, WHOLE
from modulus.errors import BuildError, IntegrityError, LastingBuildError, ModulusError
from modulus.host.build import failures
from modulus.host.build.module_check import Module
from modulus.host.files import atomic
from modulus.host.files.place import writing
from modulus.host.report.reporter import Reporter
from modulus.host.reuse.object_cache import Kept
from modulus.pipeline.build import twin
from modulus.pipeline.build.built import Built, stored
from modulus.pipeline.build.compile import Basis, commit, compile_job, unpack
from modulus.pipeline.build.history import instead
from modulus.pipeline.build.one_pass import OnePass
from modulus.pipeline.build.recipe import recipe_for, takes_no_shortcuts
from modulus.pipeline.build.source import DriverPackage
from modulus.pipeline.node import Node

SCRATCH = "build"
"""The name of the scratch folders of builds."""


_Made = tuple[tuple[Module, ...], str]
"""Modules, and how they were made, for the manifest."""


def _nothing() -> None:
    pass


class Job(Protocol):
    """A build that is wanted, and all that it takes."""

    @property
    def package(self) -> DriverPackage | None:
        """The driver's package, where the job takes it."""

    def make(
        self,
        node: Node,
        reporter: Reporter,
        *,
        shell: bool = False,
        meanwhile: Callable[[], None] = _nothing,
    ) -> Built:
        """The build, in the store. The caller keeps clean-ups out of the cache.

        ``meanwhile`` is called once the compiler is next. With ``shell`` the container of a
        build that failed is opened before it goes away.
        """


@dataclass(frozen=True)
class Done:
    """The job of a build that is in the store already."""

    built: Built
    package: DriverPackage | None = None

    def make(self, *_: object, **__: object) -> Built:
        """The build."""
        return self.built


@dataclass(frozen=True)
class FromPackage:
    """Compiles the sources of ``package``.

    ``one_pass`` may have the sources by now, and is closed by ``make``. ``plain``: the build
    takes no shortcut, and replaces what is stored.
    """

    basis: Basis
    package: DriverPackage
    one_pass: OnePass
    plain: bool = False

    def make(
        self,
        node: Node,
        reporter: Reporter,
        *,
        shell: bool = False,
        meanwhile: Callable[[], None] = _nothing,
    ) -> Built:
        """The build, unless another process has just made it."""
        with contextlib.closing(self.one_pass):

            def compiled(scratch: Path) -> _Made:
                recipe = _recipe(node, self.basis)
                if self.plain:
                    recipe = plainly(recipe)

                def lay_out() -> None:
                    unpack(
                        node, reporter, self.basis, self.package, scratch / "src", self.one_pass
                    )
                    meanwhile()

                modules = compile_job(
                    node, reporter, self.basis, recipe, scratch, lay_out, shell=shell
                )
                return modules, TOGETHER if takes_shortcuts(recipe) else WHOLE

            return _commit(node, reporter, self.basis, compiled, anew=self.plain)


@dataclass(frozen=True)
class FromKept:
    """Has kbuild finish ``kept``, the objects compiled for a twin of the kernel.

    Where they turn out to be of no use, ``otherwise`` gives the job to do in its place.
    """

    basis: Basis
    kept: Kept
    otherwise: Callable[[Reporter], Job]
    package: DriverPackage | None = None

    def make(
        self,
        node: Node,
        reporter: Reporter,
        *,
        shell: bool = False,
        meanwhile: Callable[[], None] = _nothing,
    ) -> Built:
        """The build, unless another process has just made it."""

        def finished(scratch: Path) -> _Made:
            recipe = replace(_recipe(node, self.basis), work=())

            def lay_out() -> None:
                twin.restore(node, reporter, self.kept, scratch / "work", recipe.release)
                meanwhile()

            modules = compile_job(
                node, reporter, self.basis, recipe, scratch, lay_out, again=True
            )
            return modules, TWIN

        try:
            return _commit(node, reporter, self.basis, finished, of_kept=True)
        except (BuildError, IntegrityError) as error:
            twin.forget(node, self.kept)
            reporter.warn(f"all is compiled after all: {error.message}")
        return self.otherwise(reporter).make(node, reporter, shell=shell, meanwhile=meanwhile)


def _recipe(node: Node, basis: Basis) -> Recipe:
    recipe = recipe_for(node, basis.facts.kernel, basis.headers.config.compiler)
    return plainly(recipe) if takes_no_shortcuts(node, basis.facts.recipe) else recipe


def _commit(
    node: Node,
    reporter: Reporter,
    basis: Basis,
    make: Callable[[Path], _Made],
    *,
    of_kept: bool = False,
    anew: bool = False,
) -> Built:
    """What ``make`` leaves in a scratch folder, in the store; unless ``anew``, what is there by
    now. ``of_kept``: of objects of another build, which are not kept once more.

    ``make`` is called with the build's lock: what was disproved by then counts.
    """
    facts = basis.facts
    key, release = facts.key, facts.kernel
    if key is None:
        raise ModulusError(
            f"an input of {node.instance} for {release} is still unknown", "report this bug"
        )
    with node.site.lock(key, f"the build of {node.instance} for {release}", reporter):
        found = None if anew else stored(node, reporter, facts)
        if found:
            return found
        started = time.time()
        parent = node.site.cache / "builds" / release
        failed = parent / f"{key}.failed.log"
        with writing(parent), ExitStack() as stack:
            parent.mkdir(parents=True, exist_ok=True)
            atomic.sweep(parent, SCRATCH)
            scratch = stack.enter_context(atomic.scratch(parent, SCRATCH))
            log = scratch / "entry" / "build.log"
            try:
                modules, made = make(scratch)
            except ModulusError as error:
                if isinstance(error, LastingBuildError) and not of_kept:
                    other = instead(node, release, facts.flavour)
                    error.hint = f"{other}; or {error.hint}" if other else error.hint
                    failures.remember(parent, key, node.instance, facts.flavour, error)
                if log.exists():
                    log.replace(failed)
                    if not of_kept:
                        reporter.error(f"build: the whole log is in {failed}")
                raise
            entry = commit(node, reporter, facts, modules, scratch, started, made)
            if not of_kept:
                twin.keep(node, reporter, facts, basis.headers, scratch)
        failed.unlink(missing_ok=True)
        failures.forget(parent, key)
        return Built(entry, release, facts.flavour, False, time.time() - started)
