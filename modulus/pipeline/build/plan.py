"""Plans from what a node knows by itself: no network, nothing changed."""

from __future__ import annotations

from modulus.core.build.plan import Facts, Plan, Step, explain_miss, make_plan
from modulus.core.gpu.flavour import FlavourChoice, decide
from modulus.core.kernel.modprobe import choose_modules
from modulus.core.kernel.release import check, check_name
from modulus.core.store.keys import Difference
from modulus.host.build.proofs import wrong_modules
from modulus.host.distribution.headers import Headers
from modulus.host.fetch.source_record import PackageRecord
from modulus.pipeline.build import source
from modulus.pipeline.build.recipe import recipe_digest_for
from modulus.pipeline.node import Node


def plan(node: Node, release: str, then: tuple[Step, ...] = ()) -> Plan:
    """What is to be done for kernel ``release``, and the steps ``then`` after the build."""
    facts = gather(node, release)
    return make_plan(facts, () if is_stored(node, facts) else why_missing(node, facts), then)


def is_stored(node: Node, facts: Facts) -> bool:
    """Whether the build is in the store, or seems so: nothing is hashed."""
    wrong = wrong_modules(node.paths)
    return bool(facts.key and node.site.store.find(facts.key, facts.kernel, wrong))


def why_missing(node: Node, facts: Facts) -> tuple[Difference, ...]:
    """Why the store has no such build, by every manifest in it."""
    stored = (
        entry.manifest.inputs
        for entry in node.site.store.entries()
        if entry.manifest
        and entry.manifest.instance.rpartition("-")[0] == node.instance.profile
    )
    return explain_miss(facts, stored)


def start_steps(node: Node) -> tuple[Step, ...]:
    """What ``up`` does once the modules are built."""
    settings, profile = node.settings, node.profile
    modules = choose_modules(profile.load, profile.build, settings.modules)
    whose = "the profile's" if settings.modules is None else "set by the settings"
    level = settings.ready_when
    return (
        Step("install", f"the generation of {node.instance}", "asked for"),
        *([Step("load", ", ".join(modules), whose)] if modules else ()),
        *([Step("nodes", "its device nodes", "as the driver says")] if profile.nodes else ()),
        Step("verify", f"to the level {level}", f"ready_when is {level}"),
    )


def gather(node: Node, release: str) -> Facts:
    """All that decides a build for ``release``, as far as it is recorded.

    Raises UnsupportedError for a kernel or GPU that this driver cannot work with.
    """
    check_name(release)
    record = source.recorded(node)
    choice = flavour(node, record)
    headers = node.provisioner.headers_recorded(release)
    toolchain = recipe = None
    if headers:
        check_kernel(node, headers)
        compiler = headers.config.compiler
        toolchain = node.toolchain_recorded(compiler)
        recipe = recipe_digest_for(node, release, compiler)
    return Facts(
        instance=node.instance,
        kernel=release,
        arch=node.arch,
        flavour=choice.flavour,
        flavour_reason=choice.reason,
        profile=node.profile.build_section(choice.flavour, release, node.instance.version),
        recipe=recipe,
        source=record.sha256 if record else None,
        downloaded=record is not None and source.is_downloaded(node, record.sha256),
        headers=headers.id if headers else None,
        symvers=headers.symvers_sha256 if headers else None,
        toolchain=toolchain.id if toolchain else None,
        dropped=choice.dropped,
    )


def check_kernel(node: Node, headers: Headers) -> None:
    """Raises UnsupportedError for a kernel whose options rule the driver out."""
    check(
        headers.config,
        headers.release,
        requires=node.profile.requires_config,
        refuses=node.profile.refuses_config,
    )


def flavour(node: Node, record: PackageRecord | None) -> FlavourChoice:
    """Which flavour this node's GPUs and the driver's branch call for.

    Raises UnsupportedError where it drives none of the GPUs, or not all that have to work.
    """
    return decide(
        node.profile,
        node.settings.flavour,
        node.instance.version,
        # What is passed through to virtual machines is not this driver's business.
        [gpu.device for gpu in node.census.usable],
        record.gpus if record else None,
        require_all=node.settings.require_all_gpus,
    )
