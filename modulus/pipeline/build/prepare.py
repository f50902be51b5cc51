"""A build that is in the store already, or all that it takes to make one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from modulus.core.build.plan import Plan
from modulus.core.build.revoked import recipe_of
from modulus.core.instance import Instance
from modulus.core.status.build_counts import BuildRecord
from modulus.core.store.keys import SHORT
from modulus.errors import LockedError, ModulusError
from modulus.host.build.proofs import wrong_modules
from modulus.host.distribution.headers import Headers
from modulus.host.distribution.toolchain import Toolchain
from modulus.host.files import atomic
from modulus.host.process.background import Aside, SharedReporter
from modulus.host.reuse.object_cache import Kept
from modulus.host.status.build_counts import change_record
from modulus.host.store.store import Entry
from modulus.pipeline.build import source, twin
from modulus.pipeline.build.one_pass import SCRATCH as SOURCES
from modulus.pipeline.build.one_pass import OnePass
from modulus.pipeline.build.plan import gather, plan
from modulus.pipeline.build.recipe import takes_no_shortcuts
from modulus.pipeline.node import Node

SCRATCH = "build"
"""The name of the scratch folders of builds."""
_PATIENCE = 2.0
"""Seconds for an unwanted fetch to end; a later fetch goes on with its part."""


@dataclass(frozen=True)
class Built:
    """A build that is in the store; ``seconds`` is what it took, 0 for a hit."""

    entry: Entry
    release: str
    flavour: str
    hit: bool
    seconds: float

    @property
    def recipe(self) -> str | None:
        """The digest of its recipe; None where that is not known."""
        return recipe_of(self.entry.manifest.inputs) if self.entry.manifest else None

    def text(self, instance: Instance) -> str:
        """The line that reports it."""
        what = f"{instance} for {self.release}"
        key = self.entry.key[:SHORT]
        return (
            f"hit: {what} ({key})"
            if self.hit
            else f"built: {what} in {self.seconds:.0f} s ({key})"
        )


@dataclass(frozen=True)
class Job:
    """A build that is to be done, and all that it takes: the package, or what was compiled for
    a twin of the kernel. ``one_pass`` may have the sources by now, and is closed by the build.
    ``plain``: it takes no shortcut, and replaces what is stored."""

    wanted: Plan
    headers: Headers
    toolchain: Toolchain
    made_of: source.DriverPackage | Kept
    one_pass: OnePass | None
    plain: bool = False


def prepare(node: Node, release: str) -> Built | Job:
    """The build for kernel ``release`` if it is in the store, else what making it takes.

    The caller keeps clean-ups out of the cache. Hits and failures are counted.
    """
    with counting(node):
        found = _find(node, release) or provide(node, release)
    if isinstance(found, Built):
        change_record(node.site.root, str(node.instance), BuildRecord.with_hit)
    return found


@contextlib.contextmanager
def counting(node: Node) -> Iterator[None]:
    """Counts a failure of the build; a held lock is none."""
    try:
        yield
    except LockedError:
        raise
    except ModulusError:
        change_record(node.site.root, str(node.instance), BuildRecord.with_failed)
        raise


def _find(node: Node, release: str) -> Built | None:
    found = stored(node, plan(node, release))
    if found:
        # A build that was killed at its very end is stored, but its scratch folders are left.
        for prefix in (SCRATCH, SOURCES):
            atomic.sweep(node.site.cache / "builds" / release, prefix)
    return found


def provide(
    node: Node, release: str, *, whole: bool = False, plain: bool = False
) -> Built | Job:
    """All that the build takes; the package is fetched while the rest is provisioned.

    With ``whole`` all will be compiled, whatever was kept from other kernels; with ``plain``
    also without any other shortcut, and even where a build is stored.
    """
    first = plan(node, release)
    whole = whole or plain or takes_no_shortcuts(node, first.facts.recipe)
    hoped_for = not whole and twin.is_hoped_for(node, first)
    shared = SharedReporter(node.reporter)
    told = node.telling(shared)
    members = source.members(node, first.facts.flavour)
    what = source.sources_text(node, first.facts.flavour)
    one_pass = OnePass(node.site.cache / "builds" / release, members, what)
    with contextlib.ExitStack() as unless_used:
        unless_used.callback(one_pass.close)
        with Aside(
            lambda aside: source.provide(told.beside(aside), one_pass),
            shared,
            patience=_PATIENCE,
        ) as package:
            if source.may_come_beside_apt(node) and not hoped_for:
                package.start()
            headers = told.provisioner.headers(release)
            gather(node, release)  # The kernel's options may rule the driver out.
            toolchain = told.toolchain(headers.config.compiler)
            kept = twin.find(node, plan(node, release), headers) if hoped_for else None
            made_of = kept or package.result()
        final = plan(node, release)
        for difference in final.miss:
            node.reporter.phase("plan", f"miss: {difference}")
        found = None if plain else stored(node, final)
        if found:
            return found
        unless_used.pop_all()
        return Job(final, headers, toolchain, made_of, one_pass, plain)


def stored(node: Node, wanted: Plan) -> Built | None:
    """The build that ``wanted`` describes, if it is in the store."""
    if wanted.key is None:
        return None
    wrong = wrong_modules(node.paths)
    entry = node.site.store.get(wanted.key, wanted.facts.kernel, wrong)
    return Built(entry, wanted.facts.kernel, wanted.facts.flavour, True, 0) if entry else None
