"""Compiles a job in a build container, and puts its modules into the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from modulus.core.build.plan import Plan
from modulus.core.build.recipe import HEADERS_AT, RESULTS_AT, SOURCES_AT, WORK_AT, Recipe
from modulus.core.store.keys import SHORT
from modulus.core.store.manifest import WHOLE
from modulus.errors import BuildError, UnsupportedError
from modulus.host.archive.reader import all_of
from modulus.host.build.compile import compile_modules
from modulus.host.build.container import (
    TASKS,
    Limits,
    Mount,
    choose,
    most_memory,
    open_container,
)
from modulus.host.build.inspect import Module
from modulus.host.report.clock import rfc3339
from modulus.host.reuse.object_cache import Kept
from modulus.host.store.store import Entry
from modulus.pipeline.build import source, twin
from modulus.pipeline.build.prepare import Job
from modulus.pipeline.node import Node


def compile_job(
    node: Node,
    job: Job,
    recipe: Recipe,
    scratch: Path,
    *,
    purpose: str = "",
    shell: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[Module, ...]:
    """Compiles ``job`` by ``recipe``: its modules, in the folder ``out`` of the empty
    ``scratch``. ``entry`` has the log then, and ``work`` what make has left.

    ``purpose`` tells its container from that of a build of the same key, since a container
    replaces what a killed one of its name left.
    """
    wanted, headers, toolchain = job.wanted, job.headers, job.toolchain
    sources, work, out, box, entry = (
        scratch / name for name in ("src", "work", "out", "container", "entry")
    )
    for folder in (sources, work, out, box, entry):
        folder.mkdir()
        folder.chmod(0o755)
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
    memory = node.settings.build.memory_max or most_memory()
    limits = Limits(memory, float(recipe.jobs), TASKS)
    name = f"{purpose}{(wanted.key or '')[:SHORT]}"
    ids = node.settings.build.ids
    with open_container(
        kind, toolchain.root, mounts, limits, name, box, node.reporter, ids
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


def _unpack(node: Node, job: Job, package: source.DriverPackage, target: Path) -> None:
    flavour = job.wanted.facts.flavour
    members = source.members(node, flavour)
    listed = members.listed(package.manifest)
    if job.one_pass and job.one_pass.take(members, listed, target):
        return
    node.reporter.phase("unpack", source.sources_text(node, flavour))
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


def commit(
    node: Node,
    wanted: Plan,
    modules: tuple[Module, ...],
    scratch: Path,
    started: float,
    made: str,
) -> Entry:
    """Makes what ``compile_job`` has left in ``scratch`` the entry of the key of ``wanted``.

    A build without shortcuts replaces any other. The caller has the key's lock, and keeps
    clean-ups out.
    """
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
            "made": made,
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
        instead=made == WHOLE,
    )
