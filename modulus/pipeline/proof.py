"""Builds an entry of the store once more, from its recorded inputs and without a shortcut.

So what compiles many objects at once, or takes them from another kernel's build, is held to
the vendor's own way where it is used. Nothing is fetched, and no lock is held that a build or
a clean-up needs, but to replace what turned out wrong.
"""

from __future__ import annotations

import contextlib
import filecmp
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from modulus.core.dataclass import dataclass, replace
from modulus.core.instance import parse_instance
from modulus.core.keys import SHORT, differences
from modulus.core.manifest import WHOLE, Manifest
from modulus.core.plan import Plan
from modulus.core.proof import EQUAL, UNSTABLE, Disproof
from modulus.core.recipe import Recipe, plainly
from modulus.errors import BuildError, IntegrityError, ModulusError, ToolchainError
from modulus.host import files
from modulus.host.clock import rfc3339
from modulus.host.filedata import regular_files
from modulus.host.kept import KeptObjects
from modulus.host.modules import Module
from modulus.host.place import writing
from modulus.host.proofs import add_disproof, read_proof, write_proof
from modulus.host.resources import too_little_for
from modulus.host.store import Entry
from modulus.pipeline import early, source
from modulus.pipeline.compile import commit, compile_job
from modulus.pipeline.node import Node
from modulus.pipeline.plan import plan
from modulus.pipeline.prepare import Built, Job, stored
from modulus.pipeline.recipe import recipe_for
from modulus.pipeline.site import Site

_SCRATCH = "prove"
_OTHERWISE = "build it anew with modulus build, which needs nothing of it"


@dataclass(frozen=True)
class Proved:
    """That an entry was built again: its modules are the same, or cannot tell (UNSTABLE)."""

    entry: Entry
    result: str
    seconds: float


@dataclass(frozen=True)
class _Again:
    """One more build of an entry: in ``scratch``, with ``modules``."""

    scratch: Path
    modules: tuple[Module, ...]

    @property
    def digests(self) -> dict[str, str]:
        return {module.file: module.sha256 for module in self.modules}


def unproved(site: Site) -> Iterator[Entry]:
    """The builds that this node made by a shortcut and nobody has proved yet."""
    return (entry for entry in site.store.entries() if _wants_proof(site, entry))


def prove(site: Site, entry: Entry) -> Proved:
    """Builds ``entry`` again, at most one at a time, and records what comes of it.

    Raises ToolchainError where that cannot be told, such as for inputs that are gone, and
    IntegrityError where the modules differ: their place is then taken by what was built now,
    and the driver is built without shortcuts until its recipe is another one.
    """
    name = entry.key[:SHORT]
    manifest = entry.manifest
    if manifest is None:
        raise ToolchainError(f"unproved: {name} is damaged: {entry.problem}", _OTHERWISE)
    started = time.time()
    with site.lock("prove", "the proof of a build"):
        try:
            return _prove(site, entry, manifest, started)
        except (BuildError, OSError) as error:
            cause = error.message if isinstance(error, BuildError) else str(error)
            raise ToolchainError(f"unproved: {name}: {cause}", "try again later") from error


def prove_once(site: Site, entry: Entry) -> None:
    """Proves ``entry``, as ``prove`` does, unless that was done or it took no shortcut."""
    if _wants_proof(site, entry):
        prove(site, entry)


def before_use(node: Node, built: Built) -> Built:
    """``built``, proved first where the settings say so; what is right where it is wrong.

    Raises ToolchainError where it cannot be proved. Other stores' builds are believed.
    """
    if node.settings.build.prove != "before-use" or not _wants_proof(node.site, built.entry):
        return built
    try:
        prove(node.site, built.entry)
    except IntegrityError as error:
        node.reporter.error(f"build: {error.message}")
        right = stored(node, plan(node, built.release))
        if right is None:
            raise
        return replace(right, hit=built.hit, seconds=built.seconds)
    return built


def _wants_proof(site: Site, entry: Entry) -> bool:
    made = entry.manifest.made if entry.manifest else None
    return entry.own and made not in (None, WHOLE) and not read_proof(site.cache, entry)


def _prove(site: Site, entry: Entry, manifest: Manifest, started: float) -> Proved:
    node = _node(site, manifest)
    job = _job(node, entry, manifest)
    recipe = recipe_for(node, manifest.kernel, job.toolchain.cc)
    lacking = too_little_for(recipe.jobs, site.cache)
    if lacking:
        raise _unproved(entry, lacking)
    recorded = {file.path: file.sha256 for file in manifest.files}
    node.reporter.phase(
        "verify", f"{node.instance} is built again to prove {entry.key[:SHORT]}"
    )
    with ExitStack() as stack:

        def again(recipe: Recipe) -> _Again:
            return stack.enter_context(_again(node, job, recipe))

        # Other jobs, and another folder: neither may be seen in the bits.
        plain = plainly(replace(recipe, jobs=recipe.jobs - 1 or 2))
        first = again(plain)
        if first.digests == recorded:
            write_proof(site.cache, entry, EQUAL)
            return Proved(entry, EQUAL, time.time() - started)
        if again(replace(plain, jobs=recipe.jobs)).digests != first.digests:
            write_proof(site.cache, entry, UNSTABLE)
            return Proved(entry, UNSTABLE, time.time() - started)
        # It may have been built from what is not there any more.
        _job(node, entry, manifest)
        modules = [name for name, sha256 in recorded.items() if first.digests[name] != sha256]
        objects: list[str] = []
        # The verdict stands, whether or not it can be told where it comes from.
        with contextlib.suppress(BuildError, OSError):
            objects = _differing(first, again(recipe))
        objects = objects or modules
        disproof = Disproof(
            recipe=job.wanted.facts.recipe or "",
            key=entry.key,
            modules=tuple(recorded[name] for name in modules),
            objects=tuple(objects),
            at=rfc3339(time.time()),
        )
        _replace(node, entry, job.wanted, first, disproof, started)
    raise IntegrityError(
        f"{entry.key[:SHORT]} ({node.instance} for {manifest.kernel}) was built wrong: without "
        f"shortcuts {', '.join(objects)} come out otherwise",
        f"what is right is in its place now; reboot if {node.instance} is loaded",
    )


def _unproved(entry: Entry, why: str) -> ToolchainError:
    return ToolchainError(f"unproved: {entry.key[:SHORT]}: {why}", _OTHERWISE)


def _node(site: Site, manifest: Manifest) -> Node:
    """The node as it was for that build, as far as settings go; it fetches nothing."""
    instance = parse_instance(manifest.instance, "")
    words = (*site.assignments, "offline=true", f"flavour={manifest.flavour}")
    words += tuple(f"drivers.{instance.profile}.{word}" for word in words[-2:])
    return Node(Site(site.root, site.config, words, site.lock_timeout, site.reporter), instance)


def _job(node: Node, entry: Entry, manifest: Manifest) -> Job:
    """All that the build of ``entry`` took; ToolchainError where it is not at hand."""
    if node.settings.build.container == "none":
        raise _unproved(entry, "build.container is none, and the host takes part in the build")
    try:
        wanted = plan(node, manifest.kernel)
        for difference in differences(manifest.inputs, wanted.inputs):
            raise _unproved(entry, f"{difference.input} is not at hand as it was")
        headers = node.provisioner.headers(manifest.kernel)
        toolchain = node.provisioner.toolchain(headers.config.compiler)
        found = {"headers": headers.id, "toolchain": toolchain.id}
        for name in (name for name in found if found[name] != manifest.inputs[name]):
            raise _unproved(entry, f"{name} is damaged")
        if not source.is_downloaded(node, manifest.inputs["source"]):
            raise _unproved(entry, f"the package of {node.instance} is not in the cache")
        package = source.provide(node)
    except ToolchainError:
        raise
    except ModulusError as error:
        raise _unproved(entry, error.message) from error
    folder = node.site.cache / "builds" / manifest.kernel
    members = source.members(node, manifest.flavour)
    return Job(wanted, headers, toolchain, package, early.Early(folder, members))


@contextlib.contextmanager
def _again(node: Node, job: Job, recipe: Recipe) -> Iterator[_Again]:
    """Builds ``job`` by ``recipe``; what that leaves is there within the context."""
    folder = node.site.cache / "builds" / job.wanted.facts.kernel
    with writing(folder), ExitStack() as stack:
        files.sweep(folder, _SCRATCH)
        scratch = stack.enter_context(files.scratch(folder, _SCRATCH))
        yield _Again(scratch, compile_job(node, job, recipe, scratch, purpose="prove-"))


def _differing(plain: _Again, short: _Again) -> list[str]:
    """The objects, by their path in the sources, that the two builds made otherwise.

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
    node: Node, entry: Entry, wanted: Plan, right: _Again, disproof: Disproof, started: float
) -> None:
    """Has ``right`` take the place of ``entry``, and nothing else be built that way."""
    site = node.site
    # First: whatever comes next is built without shortcuts.
    add_disproof(site.root, node.instance.profile, disproof)
    with site.using_cache(), site.lock(entry.key, f"the build {entry.key[:SHORT]}"):
        KeptObjects(site.cache).remove_of(disproof.recipe)
        site.store.set_aside(entry, wrong=True)
        commit(node, wanted, right.modules, right.scratch, started, WHOLE)
