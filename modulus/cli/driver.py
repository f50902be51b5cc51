"""``modulus up`` and its kin: what changes, checks and shows the drivers of this node."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from modulus.cli import output
from modulus.cli.parser import EXAMPLE
from modulus.cli.system import make_node, make_site, make_store_site
from modulus.core.instance import Instance, parse_instance
from modulus.core.status.state import KernelReady
from modulus.errors import ConfigError
from modulus.host.kernel.next_boot import default_kernel
from modulus.host.report.reporter import Reporter

if TYPE_CHECKING:
    from modulus.host.status.reporter import StatusReporter
    from modulus.pipeline.activate.up import Activated
    from modulus.pipeline.activate.verify import Checked
    from modulus.pipeline.node import Node


def up(options: argparse.Namespace, reporter: Reporter) -> int:
    """Makes the driver work on the running kernel, and with ``--watch`` stays."""
    instance = parse_instance(options.instance, EXAMPLE)
    if options.watch:
        from modulus.agent.resident import watch

        return watch(make_site(options), instance, reporter, verbose=options.verbose)
    if options.repair:
        from modulus.cli.repair import repair

        return repair(options, reporter)
    node, done = (_install if options.no_load else _start)(options, instance, reporter)
    output.show(_up_value(node, done), options.json, _up_text(node, done))
    return 0


def _install(
    options: argparse.Namespace, _instance: Instance, reporter: Reporter
) -> tuple[Node, Activated]:
    from modulus.pipeline.activate.up import up

    node = make_node(options, reporter)
    return node, up(node, reporter, load=False)


def _start(
    options: argparse.Namespace, instance: Instance, reporter: Reporter
) -> tuple[Node, Activated]:
    """Reports in /run and to systemd too, from the first mistake in a setting on."""
    from modulus.host.status.reporter import StatusReporter
    from modulus.pipeline.activate.up import up

    site = make_site(options)
    with StatusReporter(reporter, site.root, str(instance), selected=True) as live:
        node = make_node(options, live)
        done = up(node, live)
        _finish(live, node, done)
    return node, done


def _finish(live: StatusReporter, node: Node, done: Activated) -> None:
    """Reports the result in /run and to systemd."""
    from modulus.pipeline.activate.up import READY, WAITING

    live.finish(
        phase=WAITING if done.phase == WAITING else READY,
        active=done.generation is not None,
        selected=done.generation is not None,
        key=done.key,
        generation=done.generation.name if done.generation else None,
        kernels=_kernels(node, done),
        findings=done.findings,
    )


def _kernels(node: Node, done: Activated) -> tuple[KernelReady, ...]:
    """The running kernel only: the others are not known without a look at each."""
    if done.generation is None:
        return ()
    running = node.kernel.release
    default = default_kernel(node.site.root, node.site.host.kernels)
    return (KernelReady(running, True, running == default),)


def _up_value(node: Node, done: Activated) -> dict[str, Any]:
    made: dict[str, Any] = {"instance": str(node.instance)}
    if done.built:
        from modulus.cli.building import done_value

        made = done_value(node, done.built)
    value = {**made, "phase": done.phase, "warm": done.built is None, "changed": done.changed}
    if done.generation:
        of = done.generation.contents.identity
        value |= {
            "kernel": of.kernel.release,
            "key": of.key,
            "flavour": of.flavour,
            "generation": done.generation.name,
        }
    return {**value, "findings": [finding.value() for finding in done.findings], "error": None}


def _up_text(node: Node, done: Activated) -> str:
    from modulus.pipeline.activate.up import BUILT, WAITING

    lines = [done.built.text(node.instance)] if done.built else []
    if done.generation:
        verb = "installed" if done.changed else "unchanged"
        lines.append(f"{verb}: {node.paths.inside.link} is {done.generation.name}")
    if done.phase == WAITING:
        lines.append(f"wait: {node.instance} is built; there is no GPU for it yet")
    elif done.phase == BUILT:
        lines.append(f"ready: {node.instance} is built, and not loaded without a GPU")
    return "\n".join(lines)


def rollback(options: argparse.Namespace, reporter: Reporter) -> int:
    """Goes back to the generation that worked before."""
    from modulus.host.status.reporter import StatusReporter
    from modulus.pipeline.activate.rollback import choose, rollback

    site = make_site(options)
    node, generation = choose(site, reporter, options.name)
    instance = str(node.instance)
    with StatusReporter(reporter, site.root, instance, selected=True) as live:
        done = rollback(node, live, generation)
        _finish(live, node, done)
    output.show(_up_value(node, done), options.json, _up_text(node, done))
    return 0


def down(options: argparse.Namespace, reporter: Reporter) -> int:
    """Unloads the driver and takes away what was made for it."""
    from modulus.pipeline.activate.down import down
    from modulus.pipeline.node import Node

    node = Node(make_site(options), parse_instance(options.instance, EXAMPLE))
    try:
        _ = node.settings
    except ConfigError as error:
        # No setting is needed, and a mistake in one must not keep a driver loaded.
        for line in error.message.splitlines():
            reporter.warn(f"{line}; it goes down all the same")
    removed = down(node, reporter)
    lines = [f"removed: {what}" for what in removed]
    lines.append(f"down: {node.instance}" if removed else f"down: {node.instance} was not up")
    output.show({"removed": list(removed)}, options.json, "\n".join(lines))
    return 0


def verify(options: argparse.Namespace, reporter: Reporter) -> int:
    """Says what is wrong with the active drivers, or the one that is named."""
    from modulus.pipeline.activate.verify import check, check_all

    if options.instance:
        node = make_node(options, reporter)
        node.site.tell_store_problems(reporter)
        checked: tuple[Checked, ...] = (check(node, deep=options.deep),)
    else:
        checked = check_all(make_store_site(options, reporter), deep=options.deep)
    found = [finding for one in checked for finding in one.findings]
    errors = [one.error for one in checked if one.error]
    value: dict[str, Any] = {
        "ok": not errors,
        "findings": [finding.value() for finding in found],
    }
    if errors:
        value["error"] = output.error_value(errors[0])
    names = ", ".join(one.name for one in checked)
    output.show(value, options.json, output.findings_text(found, names))
    for error in errors:
        output.show_error(error, reporter)
    return errors[0].code if errors else 0


def status(options: argparse.Namespace, reporter: Reporter) -> int:
    """Shows the state of the named instance, or of all."""
    from modulus.cli.status_text import status_text
    from modulus.pipeline.inspect.status import status

    instance = parse_instance(options.instance, EXAMPLE) if options.instance else None
    states = status(make_store_site(options, reporter), instance)
    value = {"instances": [state.value() for state in states]}
    output.show(value, options.json, status_text(states))
    return 0


def wait(options: argparse.Namespace, reporter: Reporter) -> int:
    """Waits until the drivers that are being started are ready, or cannot be."""
    from modulus.pipeline.inspect.wait import wait

    waited = wait(make_site(options), reporter, options.timeout)
    output.show(waited.value(), options.json, "")
    return waited.code


def render(options: argparse.Namespace, reporter: Reporter) -> int:
    """Prints a file for another program."""
    from modulus.pipeline.render import user_data

    node = make_node(options, reporter)
    text = user_data(node, options.package, options.package_sha256)
    output.show({"text": text}, options.json, text)
    return 0
