"""From a plan to modules in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from modulus.core.build.proof import EQUAL
from modulus.core.status.build_counts import BuildRecord
from modulus.core.store.keys import SHORT
from modulus.errors import UnprovedError, WrongBuildError
from modulus.host.report.reporter import Reporter
from modulus.host.status.build_counts import change_record
from modulus.pipeline.build.built import Built, stored
from modulus.pipeline.build.job import Job
from modulus.pipeline.build.plan import gather
from modulus.pipeline.build.prepare import counting, prepare, provide
from modulus.pipeline.build.proof import prove, wants_proof
from modulus.pipeline.node import Node


def build(node: Node, reporter: Reporter, release: str, *, shell: bool = False) -> Built:
    """The modules for kernel ``release``, from the store or compiled into it now.

    With ``shell`` the container of a build that failed is opened before it goes away. The
    result is counted.
    """
    with node.site.using_cache(reporter):
        return carry_out(node, reporter, prepare(node, reporter, release), shell=shell)


def carry_out(
    node: Node,
    reporter: Reporter,
    job: Job,
    *,
    shell: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Built:
    """Has ``job`` make its build, counts the result, and proves it where the settings say so.

    ``meanwhile`` is called once the compiler is next.
    """
    with counting(node):
        built = job.make(node, reporter, shell=shell, meanwhile=meanwhile)
    change_record(
        node.site.root,
        str(node.instance),
        BuildRecord.with_hit
        if built.hit
        else lambda record: record.with_built(built.release, built.seconds),
    )
    return before_use(node, reporter, built)


def before_use(node: Node, reporter: Reporter, built: Built) -> Built:
    """``built``, proved first where the settings say so; the right build where it is wrong.

    A build that cannot be proved is made again without shortcuts. Other stores' builds are
    believed.
    """
    if node.settings.build.prove != "before-use" or not wants_proof(node.site, built.entry):
        return built
    try:
        if prove(node.site, reporter, built.entry).result == EQUAL:
            return built
        reporter.warn(f"{built.entry.key[:SHORT]} is not reproducible")
    except WrongBuildError as error:
        reporter.error(f"build: {error.message}")
        right = stored(node, reporter, gather(node, built.release))
        if right:
            return replace(right, hit=built.hit, seconds=built.seconds)
    except UnprovedError as error:
        reporter.warn(error.message)
    reporter.phase("build", f"{node.instance} without shortcuts")
    return provide(node, reporter, gather(node, built.release), plain=True).make(node, reporter)
