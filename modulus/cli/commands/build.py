"""``modulus build``: builds modules into the store."""

from __future__ import annotations

import argparse
from typing import Any

from modulus.agent.prebuild.record import KernelRecord
from modulus.cli import output
from modulus.cli.system import make_node
from modulus.core.store.keys import SHORT
from modulus.errors import ModulusError
from modulus.host.build.failures import forget_all
from modulus.host.generation.install import Generation
from modulus.host.report.reporter import Reporter
from modulus.pipeline.build.build import build
from modulus.pipeline.build.prebuild import in_place, urgent_first
from modulus.pipeline.build.proof import prove, wants_proof
from modulus.pipeline.inspect.status import record_kernels
from modulus.pipeline.node import Node


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Tries every release; the exit code is the first failure's."""
    node = make_node(options, reporter)
    node.site.tell_store_problems(reporter)
    if options.retry:
        forget_all(node.site.cache, node.instance)
    if options.all_kernels:
        releases = urgent_first(node)
    else:
        releases = tuple(dict.fromkeys(options.kernel or (node.kernel.release,)))
    results: list[dict[str, Any]] = []
    failures: list[ModulusError] = []
    for release in releases:
        active = in_place(node, release) if options.all_kernels else None
        if active:
            results.append(_active_value(node, release, active))
            key = active.contents.identity.key[:SHORT]
            text = f"active: {node.instance} for {release} ({key})"
            output.show({}, False, "" if options.json else text)
            continue
        try:
            built = build(node, reporter, release, shell=options.shell)
            if options.prove and wants_proof(node.site, built.entry):
                prove(node.site, reporter, built.entry, again=False)
        except ModulusError as error:
            failures.append(error)
            results.append(_failed(node, release, error))
            output.show_error(error, reporter)
        else:
            results.append(output.built_value(node.instance, built))
            output.show({}, False, "" if options.json else built.text(node.instance))
    record_kernels(node)
    done = {result["kernel"] for result in results if not result["error"]}
    KernelRecord(
        node.site.root,
        str(node.instance),
        lambda error: reporter.warn(f"the record of builds ahead stays: {error}"),
    ).built(done)
    if options.json:
        result: dict[str, Any] = {"results": results}
        if failures:
            result["error"] = output.error_value(failures[0])
        output.show(result, True, "")
    return failures[0].code if failures else 0


def _active_value(node: Node, release: str, active: Generation) -> dict[str, Any]:
    return {
        "instance": str(node.instance),
        "kernel": release,
        "key": active.contents.identity.key,
        "hit": True,
        "seconds": 0.0,
        "path": str(active.path),
        "error": None,
    }


def _failed(node: Node, release: str, error: ModulusError) -> dict[str, Any]:
    return {
        "instance": str(node.instance),
        "kernel": release,
        "key": None,
        "hit": False,
        "seconds": None,
        "path": None,
        "error": output.error_value(error),
    }
