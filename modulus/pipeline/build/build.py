"""From a plan to modules in the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from modulus.core.build.proof import EQUAL
from modulus.core.build.recipe import (
    Recipe,
    plainly,
    takes_shortcuts,
)
from modulus.core.status.build_counts import BuildRecord
from modulus.core.store.keys import SHORT
from modulus.core.store.manifest import TOGETHER, TWIN, WHOLE
from modulus.errors import (
    BuildError,
    IntegrityError,
    ModulusError,
    UnprovedError,
    WrongBuildError,
)
from modulus.host.files import atomic
from modulus.host.files.place import writing
from modulus.host.reuse.object_cache import Kept
from modulus.host.status.build_counts import change_record
from modulus.pipeline.build import twin
from modulus.pipeline.build.compile import commit, compile_job
from modulus.pipeline.build.plan import plan
from modulus.pipeline.build.prepare import (
    SCRATCH,
    Built,
    Job,
    counting,
    prepare,
    provide,
    stored,
)
from modulus.pipeline.build.proof import prove, wants_proof
from modulus.pipeline.build.recipe import recipe_for, takes_no_shortcuts
from modulus.pipeline.node import Node


def build(node: Node, release: str, *, shell: bool = False) -> Built:
    """The modules for kernel ``release``, from the store or compiled into it now.

    With ``shell`` the container of a build that failed is opened before it goes away. The
    result is counted.
    """
    with node.site.using_cache():
        found = prepare(node, release)
        if isinstance(found, Built):
            return before_use(node, found)
        return carry_out(node, found, shell=shell)


def carry_out(
    node: Node,
    job: Job,
    *,
    shell: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Built:
    """Does ``job``, unless another process has just done it; counted as by ``build``.

    ``meanwhile`` is called once the compiler is next. The build is proved where the settings
    say so.
    """
    with counting(node):
        built = _do(node, job, shell, meanwhile or (lambda: None))
    change_record(
        node.site.root,
        str(node.instance),
        BuildRecord.with_hit
        if built.hit
        else lambda record: record.with_built(built.release, built.seconds),
    )
    return before_use(node, built)


def before_use(node: Node, built: Built) -> Built:
    """``built``, proved first where the settings say so; the right build where it is wrong.

    A build that cannot be proved is made again without shortcuts. Other stores' builds are
    believed.
    """
    if node.settings.build.prove != "before-use" or not wants_proof(node.site, built.entry):
        return built
    try:
        if prove(node.site, built.entry).result == EQUAL:
            return built
        node.reporter.warn(f"{built.entry.key[:SHORT]} is not reproducible")
    except WrongBuildError as error:
        node.reporter.error(f"build: {error.message}")
        right = stored(node, plan(node, built.release))
        if right:
            return replace(right, hit=built.hit, seconds=built.seconds)
    except UnprovedError as error:
        node.reporter.warn(error.message)
    node.reporter.phase("build", f"{node.instance} without shortcuts")
    job = provide(node, built.release, plain=True)
    return job if isinstance(job, Built) else _locked_build(node, job, False, lambda: None)


def _do(node: Node, job: Job, shell: bool, meanwhile: Callable[[], None]) -> Built:
    if isinstance(job.made_of, Kept):
        try:
            return _locked_build(node, job, False, meanwhile)
        except (BuildError, IntegrityError) as error:
            twin.forget(node, job.made_of)
            node.reporter.warn(f"all is compiled after all: {error.message}")
        found = provide(node, job.wanted.facts.kernel, whole=True)
        if isinstance(found, Built):
            return found
        job = found
    return _locked_build(node, job, shell, meanwhile)


def _locked_build(node: Node, job: Job, shell: bool, meanwhile: Callable[[], None]) -> Built:
    wanted = job.wanted
    key, release = wanted.key, wanted.facts.kernel
    with ExitStack() as held:
        if job.one_pass:
            held.enter_context(contextlib.closing(job.one_pass))
        if key is None:
            raise ModulusError(
                f"an input of {node.instance} for {release} is still unknown", "report this bug"
            )
        held.enter_context(node.site.lock(key, f"the build of {node.instance} for {release}"))
        found = None if job.plain else stored(node, wanted)
        if found:
            return found
        started = time.time()
        parent = node.site.cache / "builds" / release
        with writing(parent), ExitStack() as stack:
            parent.mkdir(parents=True, exist_ok=True)
            atomic.sweep(parent, SCRATCH)
            scratch = stack.enter_context(atomic.scratch(parent, SCRATCH))
            log = scratch / "entry" / "build.log"
            recipe = recipe_for(node, release, job.toolchain.cc)
            if job.plain or takes_no_shortcuts(node, wanted.facts.recipe):
                recipe = plainly(recipe)
            try:
                modules = compile_job(
                    node, job, recipe, scratch, shell=shell, meanwhile=meanwhile
                )
            except ModulusError:
                if log.exists():
                    kept = parent / f"{key}.failed.log"
                    log.replace(kept)
                    if not isinstance(job.made_of, Kept):
                        node.reporter.error(f"build: the whole log is in {kept}")
                raise
            entry = commit(node, wanted, modules, scratch, started, _how(job, recipe))
            if not isinstance(job.made_of, Kept):
                twin.keep(node, wanted, job.headers, scratch)
        (parent / f"{key}.failed.log").unlink(missing_ok=True)
        return Built(entry, release, wanted.facts.flavour, False, time.time() - started)


def _how(job: Job, recipe: Recipe) -> str:
    """How the objects of a build are made, for its manifest."""
    if isinstance(job.made_of, Kept):
        return TWIN
    return TOGETHER if takes_shortcuts(recipe) else WHOLE
