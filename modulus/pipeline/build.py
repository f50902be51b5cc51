"""From a plan to modules in the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from modulus.core.buildrecord import BuildRecord
from modulus.core.dataclass import replace
from modulus.core.keys import SHORT
from modulus.core.plan import Plan
from modulus.core.recipe import HEADERS_AT, RESULTS_AT, SOURCES_AT, WORK_AT
from modulus.errors import BuildError, IntegrityError, ModulusError, UnsupportedError
from modulus.host import files
from modulus.host.archive import all_of
from modulus.host.build import compile_modules
from modulus.host.buildrecord import change_record
from modulus.host.clock import rfc3339
from modulus.host.container import Limits, Mount, choose, open_container
from modulus.host.kept import Kept
from modulus.host.modules import Module
from modulus.host.place import writing
from modulus.host.store import Entry
from modulus.pipeline import source, twin
from modulus.pipeline.node import Node
from modulus.pipeline.prepare import (
    SCRATCH,
    Built,
    Job,
    counting,
    prepare,
    provide,
    stored,
)
from modulus.pipeline.recipe import recipe_for


def build(node: Node, release: str, *, shell: bool = False) -> Built:
    """The modules for kernel ``release``, from the store or compiled into it now.

    With ``shell`` the container of a build that failed is opened before it goes away. What
    comes of it is counted.
    """
    with node.site.using_cache():
        found = prepare(node, release)
        return found if isinstance(found, Built) else carry_out(node, found, shell=shell)


def carry_out(
    node: Node,
    job: Job,
    *,
    shell: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Built:
    """Does ``job``, unless another process has just done it; counted as by ``build``.

    ``meanwhile`` is called once the compiler is next.
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
    return built


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
        held.enter_context(contextlib.closing(job.early))
        if key is None:
            raise ModulusError(
                f"an input of {node.instance} for {release} is still unknown", "report this bug"
            )
        held.enter_context(node.site.lock(key, f"the build of {node.instance} for {release}"))
        found = stored(node, wanted)
        if found:
            return found
        started = time.time()
        parent = node.site.cache / "builds" / release
        with writing(parent), ExitStack() as stack:
            parent.mkdir(parents=True, exist_ok=True)
            files.sweep(parent, SCRATCH)
            scratch = stack.enter_context(files.scratch(parent, SCRATCH))
            log = scratch / "entry" / "build.log"
            try:
                modules = _compile(node, job, scratch, shell, meanwhile)
            except ModulusError:
                if log.exists():
                    kept = parent / f"{key}.failed.log"
                    log.replace(kept)
                    if not isinstance(job.made_of, Kept):
                        node.reporter.error(f"build: the whole log is in {kept}")
                raise
            entry = _commit(node, wanted, modules, scratch, started)
            if not isinstance(job.made_of, Kept):
                twin.keep(node, wanted, job.headers, scratch)
        (parent / f"{key}.failed.log").unlink(missing_ok=True)
        return Built(entry, release, wanted.facts.flavour, False, time.time() - started)


def _compile(
    node: Node, job: Job, scratch: Path, shell: bool, meanwhile: Callable[[], None]
) -> tuple[Module, ...]:
    wanted, headers, toolchain = job.wanted, job.headers, job.toolchain
    # The payload is another user, who has to get through to its folders.
    scratch.chmod(0o711)
    sources, work, out, box, entry = (
        scratch / name for name in ("src", "work", "out", "container", "entry")
    )
    for folder in (sources, work, out, box, entry):
        folder.mkdir()
        folder.chmod(0o755)
    recipe = recipe_for(node, headers.release, toolchain.cc)
    if isinstance(job.made_of, Kept):
        twin.restore(node, job.made_of, work, headers.release)
        recipe = replace(recipe, work=())
    else:
        _unpack(node, job, job.made_of, sources)
    meanwhile()
    mounts = (
        Mount(headers.path, HEADERS_AT),
        Mount(sources, SOURCES_AT),
        Mount(work, WORK_AT, writable=True),
        Mount(out, RESULTS_AT, writable=True),
    )
    kind = choose(node.settings.build.container, node.reporter)
    node.reporter.phase(
        "build",
        f"{node.instance} for {headers.release} with {toolchain.cc} in {kind}, "
        f"{recipe.jobs} jobs",
    )
    limits = Limits(memory=node.settings.build.memory_max, cpus=float(recipe.jobs))
    name = (wanted.key or "")[:SHORT]
    with open_container(
        kind, toolchain.root, mounts, limits, name=name, scratch=box, reporter=node.reporter
    ) as container:
        try:
            return compile_modules(
                container,
                recipe,
                sources=sources,
                headers=headers,
                out=out,
                log=entry / "build.log",
                reporter=node.reporter,
                again=isinstance(job.made_of, Kept),
            )
        except BuildError as error:
            if shell:
                node.reporter.error(f"build: {error.message}; a shell in the container follows")
                container.shell()
            raise


def _unpack(node: Node, job: Job, package: source.Source, target: Path) -> None:
    flavour = job.wanted.facts.flavour
    members = source.members(node, flavour)
    listed = package.listed(members.folders)
    node.reporter.phase("unpack", f"the {flavour} sources of {node.instance}")
    # What nobody vouches for is first held to the sums that it brings along.
    if package.archive.vouched and job.early.take(members, listed, target):
        return
    with source.discarding(node, package):
        extracted = package.archive.extract(
            target, members, enough=all_of(listed), reporter=node.reporter
        )
    if not extracted.files:
        others = ", ".join(name for name in node.profile.flavours if name != flavour)
        raise UnsupportedError(
            f"the package of {node.instance} has no {flavour} sources "
            f"({' or '.join(members.folders)})",
            f"try another flavour ({others})" if others else "choose another version",
        )


def _commit(
    node: Node, wanted: Plan, modules: tuple[Module, ...], scratch: Path, started: float
) -> Entry:
    count = f"{len(modules)} module{'s' if len(modules) != 1 else ''}"
    node.reporter.phase("commit", f"{count} to the store")
    return node.site.store.commit(
        wanted.key or "",
        wanted.facts.kernel,
        scratch / "entry",
        # Compressed, and so copied: the payload's user may have linked them elsewhere.
        scratch / "out",
        {
            "instance": str(node.instance),
            "flavour": wanted.facts.flavour,
            "inputs": dict(wanted.inputs),
            "files": [
                {
                    "path": module.file,
                    "sha256": module.sha256,
                    "size": module.size,
                    "vermagic": module.vermagic,
                    "srcversion": module.srcversion,
                }
                for module in modules
            ],
            "started": rfc3339(started),
            "finished": rfc3339(time.time()),
        },
    )
