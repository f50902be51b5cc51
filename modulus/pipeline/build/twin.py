"""Modules made from what was compiled for other kernels.

For a kernel with the same headers only what carries the release is made: by the kernel's own
scripts, in a build container, with the same bits as a whole build (``core.build.twin`` says
when that is so).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from modulus.core.build import twin
from modulus.core.build.plan import Facts, Plan
from modulus.core.build.revoked import recipe_of
from modulus.host.distribution.headers import Headers
from modulus.host.report.reporter import Reporter
from modulus.host.reuse.header_digest import survey
from modulus.host.reuse.object_cache import Kept, KeptObjects, rule_digest
from modulus.host.reuse.reuse_rules import UnfitError
from modulus.pipeline.node import Node


def is_hoped_for(node: Node, facts: Facts) -> bool:
    """Whether anything was kept that may do, if the headers turn out to be the same.

    Before headers and toolchain are there, anything may that was kept, of a package that is
    at hand: another one is fetched meanwhile.
    """
    objects = KeptObjects(node.site.cache)
    if not _may_use_kept(node):
        return False
    if facts.headers is None or facts.toolchain is None:
        return facts.downloaded and objects.any()
    return objects.has(family_of(facts))


def find(node: Node, reporter: Reporter, facts: Facts, headers: Headers) -> Kept | None:
    """The objects kept for a kernel with such headers; reports what that means."""
    kept, why = _look(node, facts, headers)
    if why:
        reporter.phase("plan", why)
    return kept


def explained(node: Node, wanted: Plan) -> Plan:
    """``wanted`` with the reason of its build step, as far as headers and objects tell."""
    if wanted.hit:
        return wanted
    headers = node.provisioner.headers_recorded(wanted.facts.kernel)
    why = _look(node, wanted.facts, headers)[1] if headers else ""
    steps = tuple(
        replace(step, why=why) if why and step.phase == "build" else step
        for step in wanted.steps
    )
    return replace(wanted, steps=steps)


def restore(node: Node, reporter: Reporter, kept: Kept, work: Path, release: str) -> None:
    """Lays out what was kept; IntegrityError where it is damaged."""
    reporter.phase("unpack", f"the objects compiled for {kept.release}")
    KeptObjects(node.site.cache).restore(kept, work, release)


def forget(node: Node, kept: Kept) -> None:
    """Removes objects that turned out to be of no use."""
    KeptObjects(node.site.cache).remove(kept)


def keep(node: Node, reporter: Reporter, facts: Facts, headers: Headers, scratch: Path) -> None:
    """Keeps what a build has compiled; objects of no further use are no failure."""
    if not _may_use_kept(node) or node.profile.remake is None:
        return
    objects = KeptObjects(node.site.cache)
    release = facts.kernel
    try:
        objects.keep(
            family_of(facts),
            survey(headers.path, release),
            release,
            recipe=recipe_of(facts.inputs),
            work=scratch / "work",
            sources=scratch / "src",
            headers=headers.path,
            harmless=[re.compile(pattern) for pattern in node.profile.remake.harmless],
        )
    except UnfitError as error:
        reporter.phase("build", f"no objects kept for other kernels: {error}")
    except (OSError, ValueError, MemoryError) as error:
        reporter.warn(f"no objects kept for other kernels: {error}")


def _may_use_kept(node: Node) -> bool:
    # Without a container more takes part in a build than its key has.
    return node.profile.remake is not None and node.settings.build.container != "none"


def family_of(facts: Facts) -> str:
    """What names the objects that a build with ``facts`` may use, but for the headers."""
    return twin.family(facts.inputs, rule_digest())


def _look(node: Node, facts: Facts, headers: Headers) -> tuple[Kept | None, str]:
    """The kept objects of a twin, and a line about them; "" where nothing was kept."""
    family, objects = family_of(facts), KeptObjects(node.site.cache)
    if not _may_use_kept(node) or not objects.has(family):
        return None, ""
    release = facts.kernel
    try:
        tree = survey(headers.path, release)
    except OSError:
        return None, ""  # Whoever builds with them will say so.
    kept = objects.find(family, tree)
    if kept:
        same = f"its headers are those of {kept.release} but for the release"
        return kept, f"{same}: only what carries that is made again"
    nearest = objects.nearest(family, tree)
    if nearest is None:
        return None, ""
    other, differing = nearest
    return None, f"all is compiled: other headers than those of {other.release}: {differing}"
