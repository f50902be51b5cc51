"""Compiles in a build container, and puts the modules into the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modulus.core.build.plan import Facts
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
from modulus.host.build.module_check import Module
from modulus.host.build.noexec import check_exec
from modulus.host.distribution.headers import Headers
from modulus.host.distribution.toolchain import Toolchain
from modulus.host.report.clock import rfc3339
from modulus.host.report.reporter import Reporter
from modulus.host.store.store import Entry
from modulus.pipeline.build import source
from modulus.pipeline.build.one_pass import OnePass
from modulus.pipeline.node import Node


@dataclass(frozen=True)
class Basis:
    """What every build takes; ``facts`` decide which one it is."""

    facts: Facts
    headers: Headers
    toolchain: Toolchain


def compile_job(
    node: Node,
    reporter: Reporter,
    basis: Basis,
    recipe: Recipe,
    scratch: Path,
    lay_out: Callable[[], None],
    *,
    again: bool = False,
    purpose: str = "",
    shell: bool = False,
) -> tuple[Module, ...]:
    """Runs ``recipe`` on what ``lay_out`` puts into the folders ``src`` and ``work`` of the
    empty ``scratch``: the modules, in its folder ``out``. ``entry`` has the log then.

    ``again``: ``work`` has objects of another build. ``purpose`` tells its container from that
    of a build of the same key, since a container replaces what a killed one of its name left.
    """
    headers, toolchain = basis.headers, basis.toolchain
    sources, work, out, box, entry = (
        scratch / name for name in ("src", "work", "out", "container", "entry")
    )
    for folder in (sources, work, out, box, entry):
        folder.mkdir()
        folder.chmod(0o755)
    lay_out()
    mounts = (
        Mount(headers.path, HEADERS_AT),
        Mount(sources, SOURCES_AT),
        Mount(work, WORK_AT, writable=True),
        Mount(out, RESULTS_AT, writable=True),
    )
    kind = choose(node.settings.build.container, reporter)
    for folder in (headers.path, toolchain.root):  # They may be of a read-only store.
        check_exec(folder)
    reporter.phase(
        "build",
        f"{node.instance} for {headers.release} with {toolchain.cc} in {kind}, "
        f"{recipe.jobs} jobs",
    )
    memory = node.settings.build.memory_max or most_memory()
    limits = Limits(memory, float(recipe.jobs), TASKS)
    name = f"{purpose}{(basis.facts.key or '')[:SHORT]}"
    ids = node.settings.build.ids
    with open_container(
        kind, toolchain.root, mounts, limits, name, box, reporter, ids
    ) as container:
        try:
            return compile_modules(
                container,
                recipe,
                sources=sources,
                headers=headers,
                out=out,
                log=entry / "build.log",
                reporter=reporter,
                again=again,
            )
        except BuildError as error:
            if shell:
                reporter.error(f"build: {error.message}; a shell in the container follows")
                container.shell()
            raise


def unpack(
    node: Node,
    reporter: Reporter,
    basis: Basis,
    package: source.DriverPackage,
    target: Path,
    one_pass: OnePass | None = None,
) -> None:
    """Unpacks the sources into the empty ``target``, or takes what ``one_pass`` has of them."""
    flavour = basis.facts.flavour
    members = source.members(node, flavour)
    listed = members.listed(package.manifest)
    if one_pass and one_pass.take(members, listed, target):
        return
    reporter.phase("unpack", source.sources_text(node, flavour))
    with source.discarding(node, package):
        extracted = package.archive.extract(
            target, members, enough=all_of(listed), reporter=reporter
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
    reporter: Reporter,
    facts: Facts,
    modules: tuple[Module, ...],
    scratch: Path,
    started: float,
    made: str,
) -> Entry:
    """Makes what ``compile_job`` has left in ``scratch`` the entry of the key of ``facts``.

    A build without shortcuts replaces any other. The caller has the key's lock, and keeps
    clean-ups out.
    """
    count = f"{len(modules)} module{'s' if len(modules) != 1 else ''}"
    reporter.phase("commit", f"{count} to the store")
    return node.site.store.commit(
        facts.key or "",
        facts.kernel,
        scratch / "entry",
        # Compressed, and so copied: the payload's user may have linked them elsewhere.
        scratch / "out",
        {
            "instance": str(node.instance),
            "flavour": facts.flavour,
            "inputs": dict(facts.inputs),
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
