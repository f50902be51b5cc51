"""A build that is in the store already, or all that it takes to make one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from modulus.core.build.plan import Facts
from modulus.core.gpu.flavour import DroppedGpu
from modulus.core.status.build_counts import BuildRecord
from modulus.errors import LockedError, ModulusError
from modulus.host.build import failures
from modulus.host.build.host_programs import check_host
from modulus.host.build.noexec import check_exec
from modulus.host.files import atomic
from modulus.host.process.background import Aside, SharedReporter
from modulus.host.report.reporter import Reporter
from modulus.host.status.build_counts import change_record
from modulus.pipeline.build import source, twin
from modulus.pipeline.build.built import stored
from modulus.pipeline.build.compile import Basis
from modulus.pipeline.build.job import SCRATCH, Done, FromKept, FromPackage, Job
from modulus.pipeline.build.one_pass import SCRATCH as SOURCES
from modulus.pipeline.build.one_pass import OnePass
from modulus.pipeline.build.plan import check_kernel, gather, why_missing
from modulus.pipeline.build.recipe import takes_no_shortcuts
from modulus.pipeline.node import Node

_PATIENCE = 2.0
"""Seconds for an unwanted fetch to end; a later fetch goes on with its part."""


def prepare(node: Node, reporter: Reporter, release: str) -> Job:
    """The build for kernel ``release`` if it is in the store, else all that making it takes.

    The caller keeps clean-ups out of the cache. Failures are counted. Raises LastingBuildError
    where the compiler has refused just this build before.
    """
    with counting(node):
        facts = gather(node, release)
        _warn_of(reporter, facts.dropped)
        found = stored(node, reporter, facts)
        if found is None:
            if facts.key:
                failures.check(node.site.cache / "builds" / release, facts.key)
            return provide(node, reporter, facts)
        # A build that was killed at its very end is stored, but its scratch folders are left.
        for prefix in (SCRATCH, SOURCES):
            atomic.sweep(node.site.cache / "builds" / release, prefix)
        return Done(found)


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


def provide(
    node: Node, reporter: Reporter, first: Facts, *, whole: bool = False, plain: bool = False
) -> Job:
    """All that the build takes of which ``first`` is known; why it is a miss is reported.

    The package is fetched while the rest is provisioned. With ``whole`` all will be compiled,
    whatever was kept from other kernels; with ``plain`` also without any other shortcut, and
    even where a build is stored. Neither is explained: what came before was.
    """
    check_exec(node.site.cache)
    release, again = first.kernel, whole or plain
    hoped_for = not again and twin.is_hoped_for(node, first)
    shared = SharedReporter(reporter)
    members = source.members(node, first.flavour)
    what = source.sources_text(node, first.flavour)
    one_pass = OnePass(node.site.cache / "builds" / release, members, what)
    with contextlib.ExitStack() as unless_used:
        unless_used.callback(one_pass.close)
        with Aside(
            lambda aside: source.provide(node, aside.reporter, one_pass, aside.sleep),
            shared,
            patience=_PATIENCE,
        ) as package:
            if source.may_come_beside_apt(node) and not hoped_for:
                package.start()
            headers = node.provisioner.headers(release, shared)
            check_kernel(node, headers)
            if node.on_host:
                check_host(headers.path, node.arch)
            toolchain = node.toolchain(headers.config.compiler, shared)
            kept = None
            if hoped_for:
                # A new kernel's headers are known only now.
                facts = gather(node, release)
                if not takes_no_shortcuts(node, facts.recipe):
                    kept = twin.find(node, shared, facts, headers)
            if kept:
                basis = Basis(facts, headers, toolchain)
                job: Job = FromKept(
                    basis, kept, lambda told: provide(node, told, facts, whole=True)
                )
            else:
                fetched = package.result()
                facts = gather(node, release)  # The package may decide the flavour.
                basis = Basis(facts, headers, toolchain)
                job = FromPackage(basis, fetched, one_pass, plain)
        # The package may have brought its own list of GPUs.
        told = {dropped.gpu for dropped in first.dropped}
        _warn_of(reporter, [dropped for dropped in facts.dropped if dropped.gpu not in told])
        found = None if plain else stored(node, reporter, facts)
        if found:
            return Done(found)
        if not again:
            for difference in why_missing(node, facts):
                reporter.phase("plan", f"miss: {difference}")
        if job.package:
            unless_used.pop_all()
        return job


def _warn_of(reporter: Reporter, dropped: Iterable[DroppedGpu]) -> None:
    for gpu in dropped:
        reporter.warn(str(gpu))
