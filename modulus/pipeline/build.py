"""From a plan to modules in the store."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

from modulus.core.buildrecord import BuildRecord
from modulus.core.dataclass import dataclass
from modulus.core.instance import Instance
from modulus.core.keys import SHORT
from modulus.core.plan import Plan
from modulus.core.recipe import HEADERS_AT, RESULTS_AT, SOURCES_AT, WORK_AT, Recipe
from modulus.core.units import rfc3339
from modulus.errors import BuildError, LockedError, ModulusError, UnsupportedError
from modulus.host import files
from modulus.host.build import compile_modules
from modulus.host.buildrecord import change_record
from modulus.host.container import Limits, Mount, choose, open_container
from modulus.host.headers import Headers
from modulus.host.modules import Module
from modulus.host.place import writing
from modulus.host.store import Entry
from modulus.host.toolchain import Toolchain
from modulus.pipeline import source
from modulus.pipeline.node import Node
from modulus.pipeline.plan import gather, plan

_SCRATCH = "build"
_JOB_MEMORY = 1 << 30
"""Bytes of memory a compiler job may need; the largest objects seen take about a third."""


@dataclass(frozen=True)
class Built:
    """A build that is in the store; ``seconds`` is what it took, 0 for a hit."""

    entry: Entry
    release: str
    flavour: str
    hit: bool
    seconds: float

    def text(self, instance: Instance) -> str:
        """The line that tells of it."""
        what = f"{instance} for {self.release}"
        key = self.entry.key[:SHORT]
        return (
            f"hit: {what} ({key})"
            if self.hit
            else f"built: {what} in {self.seconds:.0f} s ({key})"
        )


def build(node: Node, release: str, *, shell: bool = False) -> Built:
    """The modules for kernel ``release``, from the store or compiled into it now.

    With ``shell`` the container of a build that failed is opened before it goes away. What
    comes of it is counted.
    """
    root, name = node.site.root, str(node.instance)
    try:
        built = _build(node, release, shell)
    except LockedError:
        raise
    except ModulusError:
        change_record(root, name, BuildRecord.with_failed)
        raise
    if built.hit:
        change_record(root, name, BuildRecord.with_hit)
    else:
        change_record(root, name, lambda record: record.with_built(release, built.seconds))
    return built


def _build(node: Node, release: str, shell: bool) -> Built:
    with node.site.using_cache():
        found = _stored(node, plan(node, release))
        if found:
            # One that was killed at its very end was a build all the same.
            files.sweep(node.site.cache / "builds" / release, _SCRATCH)
            return found
        headers = node.provisioner.headers(release)
        gather(node, release)  # The kernel's options may rule the driver out.
        toolchain = node.toolchain(headers.config.compiler)
        package = source.provide(node)
        final = plan(node, release)
        for difference in final.miss:
            node.reporter.phase("plan", f"miss: {difference}")
        return _stored(node, final) or _locked_build(
            node, final, headers, toolchain, package, shell
        )


def _stored(node: Node, wanted: Plan) -> Built | None:
    if wanted.key is None:
        return None
    entry = node.site.store.get(wanted.key, wanted.facts.kernel)
    return Built(entry, wanted.facts.kernel, wanted.facts.flavour, True, 0) if entry else None


def _locked_build(
    node: Node,
    wanted: Plan,
    headers: Headers,
    toolchain: Toolchain,
    package: source.Source,
    shell: bool,
) -> Built:
    key, release = wanted.key, wanted.facts.kernel
    if key is None:
        raise ModulusError(
            f"an input of {node.instance} for {release} is still unknown", "report this bug"
        )
    with node.site.lock(key, f"the build of {node.instance} for {release}"):
        found = _stored(node, wanted)
        if found:
            return found
        started = time.time()
        parent = node.site.cache / "builds" / release
        with writing(parent), ExitStack() as stack:
            parent.mkdir(parents=True, exist_ok=True)
            files.sweep(parent, _SCRATCH)
            scratch = stack.enter_context(files.scratch(parent, _SCRATCH))
            log = scratch / "entry" / "build.log"
            try:
                modules = _compile(node, wanted, headers, toolchain, package, scratch, shell)
            except ModulusError:
                if log.exists():
                    kept = parent / f"{key}.failed.log"
                    log.replace(kept)
                    node.reporter.error(f"build: the whole log is in {kept}")
                raise
            entry = _commit(node, wanted, modules, scratch, started)
        (parent / f"{key}.failed.log").unlink(missing_ok=True)
        return Built(entry, release, wanted.facts.flavour, False, time.time() - started)


def _compile(
    node: Node,
    wanted: Plan,
    headers: Headers,
    toolchain: Toolchain,
    package: source.Source,
    scratch: Path,
    shell: bool,
) -> tuple[Module, ...]:
    # The payload is another user, who has to get through to its folders.
    scratch.chmod(0o711)
    sources, work, out, box, entry = (
        scratch / name for name in ("src", "work", "out", "container", "entry")
    )
    for folder in (sources, work, out, box, entry):
        folder.mkdir()
        folder.chmod(0o755)
    _unpack(node, wanted, package, sources)
    recipe = _recipe(node, wanted, toolchain)
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
            )
        except BuildError as error:
            if shell:
                node.reporter.error(f"build: {error.message}; a shell in the container follows")
                container.shell()
            raise


def _unpack(node: Node, wanted: Plan, package: source.Source, target: Path) -> None:
    flavour = wanted.facts.flavour
    folders = node.profile.flavours[flavour].folders(node.instance.version)
    node.reporter.phase("unpack", f"the {flavour} sources of {node.instance}")

    def select(name: str) -> str | None:
        for folder in folders:
            if folder == ".":
                return name
            if name.startswith(f"{folder}/"):
                return name.removeprefix(f"{folder}/")
        return None

    with source.discarding(node, package):
        extracted = package.archive.extract(
            target, select, listed=package.listed(folders), reporter=node.reporter
        )
    if not extracted.files:
        others = ", ".join(name for name in node.profile.flavours if name != flavour)
        raise UnsupportedError(
            f"the package of {node.instance} has no {flavour} sources ({' or '.join(folders)})",
            f"try another flavour ({others})" if others else "choose another version",
        )


def _recipe(node: Node, wanted: Plan, toolchain: Toolchain) -> Recipe:
    profile, release = node.profile, wanted.facts.kernel
    make = profile.make_for(release)
    return Recipe(
        modules=profile.build,
        release=release,
        arch=node.arch,
        cc=toolchain.cc,
        jobs=_jobs(node),
        targets=make.targets,
        variables=make.variables,
        patches=profile.patches_for(release, node.instance.version),
        files=profile.files_for(node.instance.version),
        work=profile.work,
        causes=profile.causes,
    )


def _jobs(node: Node) -> int:
    if node.settings.build.jobs is not None:
        return node.settings.build.jobs
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if node.settings.build.memory_max:
        memory = min(memory, node.settings.build.memory_max)
    return max(1, min(cores, memory // _JOB_MEMORY))


def _commit(
    node: Node, wanted: Plan, modules: tuple[Module, ...], scratch: Path, started: float
) -> Entry:
    entry = scratch / "entry"
    for module in modules:
        # A copy, since the payload's user owns the file and may have linked it elsewhere.
        shutil.copyfile(scratch / "out" / module.file, entry / module.file)
    count = f"{len(modules)} module{'s' if len(modules) != 1 else ''}"
    node.reporter.phase("commit", f"{count} to the store")
    return node.site.store.commit(
        wanted.key or "",
        wanted.facts.kernel,
        entry,
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
