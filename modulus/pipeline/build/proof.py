"""Builds an entry of the store once more, from its recorded inputs and without a shortcut.

So a build that compiled many objects at once, or took them from another kernel's build, is
compared with the vendor's own way on the node that uses it. Nothing is fetched, and the compile
holds no lock that a build or a clean-up needs.
"""

from __future__ import annotations

import contextlib
import filecmp
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from modulus.core.build.plan import Facts
from modulus.core.build.proof import EQUAL, UNSTABLE, Disproof
from modulus.core.build.recipe import Recipe, plainly
from modulus.core.instance import parse_instance
from modulus.core.store.keys import SHORT, differences
from modulus.core.store.manifest import WHOLE, Manifest
from modulus.errors import LockedError, ModulusError, UnprovedError, WrongBuildError
from modulus.host.build.module_check import Module
from modulus.host.build.proofs import add_disproof, read_proof, write_proof
from modulus.host.build.resources import fitting_jobs
from modulus.host.files import atomic
from modulus.host.files.data import regular_files
from modulus.host.files.place import writing
from modulus.host.report.clock import rfc3339
from modulus.host.report.reporter import Reporter
from modulus.host.reuse.object_cache import KeptObjects
from modulus.host.store.store import Entry
from modulus.pipeline.build import source
from modulus.pipeline.build.compile import Basis, commit, compile_job, unpack
from modulus.pipeline.build.plan import gather
from modulus.pipeline.build.recipe import recipe_for
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site

_SCRATCH = "prove"
_OTHERWISE = "build it anew with modulus build, which needs nothing of it"


@dataclass(frozen=True)
class Proved:
    """An entry that was built again: its modules are EQUAL, or it is UNSTABLE."""

    entry: Entry
    result: str


@dataclass(frozen=True)
class _Inputs:
    """All that a build takes."""

    basis: Basis
    package: source.DriverPackage


@dataclass(frozen=True)
class _Again:
    """One more build of an entry: in ``scratch``, with ``modules``."""

    scratch: Path
    modules: tuple[Module, ...]

    @property
    def digests(self) -> dict[str, str]:
        return {module.file: module.sha256 for module in self.modules}


def wants_proof(site: Site, entry: Entry) -> bool:
    """Whether this node made ``entry`` by a shortcut, and nobody has proved it yet."""
    made = entry.manifest.made if entry.manifest else None
    return entry.own and made not in (None, WHOLE) and not read_proof(site.cache, entry)


def unproved(site: Site) -> Iterator[Entry]:
    """The builds that want a proof."""
    return (entry for entry in site.store.entries() if wants_proof(site, entry))


def prove(site: Site, reporter: Reporter, entry: Entry, *, again: bool = True) -> Proved:
    """Builds ``entry`` again, at most one at a time, and records what comes of it.

    Unless ``again``, a proof that another process has just recorded will do. Raises
    UnprovedError where no proof can be made, such as for inputs that are gone, and
    WrongBuildError where the modules differ: the new build then takes their place, and their
    recipe takes no shortcuts until it changes.
    """
    with site.lock("prove", "the proof of a build", reporter):
        now = site.store.reread(entry)
        if now is None or now.manifest is None:
            raise _unproved(entry, f"it is damaged: {now.problem}" if now else "it is gone")
        known = None if again else read_proof(site.cache, now)
        if known:
            return Proved(now, known.result)
        try:
            return _prove(site, reporter, now, now.manifest)
        except (WrongBuildError, UnprovedError, LockedError):
            raise
        except (ModulusError, OSError) as error:
            cause = error.message if isinstance(error, ModulusError) else str(error)
            raise _unproved(entry, cause) from error


def _prove(site: Site, reporter: Reporter, entry: Entry, manifest: Manifest) -> Proved:
    node = _node(site, manifest)
    inputs = _inputs(node, reporter, entry, manifest)
    recipe = recipe_for(node, manifest.kernel, inputs.basis.headers.config.compiler)
    # Another number of jobs, and another folder: neither may change the bits.
    jobs = fitting_jobs(recipe.jobs + 1, site.cache)
    if isinstance(jobs, str):
        raise _unproved(entry, jobs)
    jobs = jobs - 1 if jobs == recipe.jobs else jobs
    plain = plainly(replace(recipe, jobs=max(jobs, 1)))
    recorded = {file.path: file.sha256 for file in manifest.files}
    reporter.phase("verify", f"{node.instance} is built again to prove {entry.key[:SHORT]}")
    with _built(node, reporter, inputs, plain) as first:
        if first.digests == recorded:
            return _proved(site, reporter, entry, EQUAL)
        with _built(node, reporter, inputs, plain) as second:
            if second.digests != first.digests:
                return _proved(site, reporter, entry, UNSTABLE)
        # Its inputs may not be there any more: the new build then proves nothing.
        _inputs(node, reporter, entry, manifest)
        modules = [name for name, sha256 in recorded.items() if first.digests[name] != sha256]
        disproof = Disproof(
            recipe=inputs.basis.facts.recipe or "",
            key=entry.key,
            modules=tuple(recorded[name] for name in modules),
            objects=tuple(modules),
            at=rfc3339(time.time()),
        )
        _replace(node, reporter, inputs.basis.facts, first, disproof)
        # The verdict stands, whether or not the wrong objects can be named.
        with (
            contextlib.suppress(ModulusError, OSError),
            _built(node, reporter, inputs, recipe) as short,
        ):
            objects = _differing(first, short)
            if objects:
                disproof = replace(disproof, objects=tuple(objects))
                add_disproof(node.paths, disproof)
    raise WrongBuildError(
        f"{entry.key[:SHORT]} ({node.instance} for {manifest.kernel}) was built wrong: without "
        f"shortcuts {', '.join(disproof.objects)} come out otherwise",
        f"what is right is in its place now; reboot if {node.instance} is loaded",
    )


def _proved(site: Site, reporter: Reporter, entry: Entry, result: str) -> Proved:
    """Records ``result``, unless another build has taken the place of ``entry``."""
    with (
        site.using_cache(reporter),
        site.lock(entry.key, f"the build {entry.key[:SHORT]}", reporter),
    ):
        now = site.store.reread(entry)
        if now is None or now.files != entry.files:
            raise _unproved(entry, "another build has taken its place")
        write_proof(site.cache, entry, result)
    return Proved(entry, result)


def _unproved(entry: Entry, why: str) -> UnprovedError:
    return UnprovedError(f"unproved: {entry.key[:SHORT]}: {why}", _OTHERWISE)


def _node(site: Site, manifest: Manifest) -> Node:
    """The node as it was for that build, as far as settings go; it fetches nothing."""
    instance = parse_instance(manifest.instance, "")
    words = (*site.assignments, "offline=true", f"flavour={manifest.flavour}")
    words += tuple(f"drivers.{instance.profile}.{word}" for word in words[-2:])
    return Node(replace(site, assignments=words), instance)


def _inputs(node: Node, reporter: Reporter, entry: Entry, manifest: Manifest) -> _Inputs:
    """All that the build of ``entry`` took; UnprovedError where it is not at hand."""
    if node.settings.build.container == "none":
        raise _unproved(entry, "build.container is none, and the host takes part in the build")
    facts = gather(node, manifest.kernel)
    for difference in differences(manifest.inputs, facts.inputs):
        raise _unproved(entry, f"{difference.input} is not at hand as it was")
    headers = node.provisioner.headers(manifest.kernel, reporter)
    toolchain = node.provisioner.toolchain(headers.config.compiler, reporter)
    found = {"headers": headers.id, "toolchain": toolchain.id}
    for name in (name for name in found if found[name] != manifest.inputs[name]):
        raise _unproved(entry, f"{name} is damaged")
    if not source.is_downloaded(node, manifest.inputs["source"]):
        raise _unproved(entry, f"the package of {node.instance} is not in the cache")
    return _Inputs(Basis(facts, headers, toolchain), source.provide(node, reporter))


@contextlib.contextmanager
def _built(node: Node, reporter: Reporter, inputs: _Inputs, recipe: Recipe) -> Iterator[_Again]:
    """Builds ``inputs`` by ``recipe``; what that leaves is there within the context."""
    folder = node.site.cache / "builds" / inputs.basis.facts.kernel
    with ExitStack() as stack:
        with writing(folder):
            atomic.sweep(folder, _SCRATCH)
            scratch = stack.enter_context(atomic.scratch(folder, _SCRATCH))
        modules = compile_job(
            node,
            reporter,
            inputs.basis,
            recipe,
            scratch,
            lambda: unpack(node, reporter, inputs.basis, inputs.package, scratch / "src"),
            purpose="prove-",
        )
        yield _Again(scratch, modules)


def _differing(plain: _Again, short: _Again) -> list[str]:
    """The objects, by their path in the sources, that differ between the two builds.

    The names are the driver's own, and shown to people.
    """
    one, other = (again.scratch / "work" for again in (plain, short))
    there = set(regular_files(other))
    return [
        "".join(c if c.isprintable() else "?" for c in name)
        for name in sorted(regular_files(one))
        if name.endswith(".o")
        and (name not in there or not filecmp.cmp(one / name, other / name, shallow=False))
    ]


def _replace(
    node: Node, reporter: Reporter, facts: Facts, right: _Again, disproof: Disproof
) -> None:
    """Has ``right`` replace the disproved build, whose recipe takes no shortcuts any more."""
    site, key, release = node.site, disproof.key, facts.kernel
    # First: whatever comes next is built without shortcuts.
    add_disproof(node.paths, disproof)
    with site.using_cache(reporter), site.lock(key, f"the build {key[:SHORT]}", reporter):
        KeptObjects(site.cache).remove_of(disproof.recipe)
        own = site.store.own(key, release)
        if own is None or not own.files or own.has_any(frozenset(disproof.modules)):
            commit(node, reporter, facts, right.modules, right.scratch, time.time(), WHOLE)
