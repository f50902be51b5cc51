"""Which drivers build for which kernels, as far as this node and its stores know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modulus.core.gpu.flavour import decide
from modulus.core.version import release_order
from modulus.errors import ModulusError
from modulus.host.build.failures import failures
from modulus.pipeline.build import source
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site

BUILDS, REFUSED, UNTRIED = "builds", "refused", "untried"


@dataclass(frozen=True)
class Fit:
    """Whether a flavour of ``instance`` builds for ``kernel``: BUILDS, UNTRIED or REFUSED, with
    what the compiler said in ``why``."""

    instance: str
    flavour: str
    kernel: str
    state: str
    why: str = ""


def known(site: Site) -> tuple[Fit, ...]:
    """What is stored, here and in the stores, and what the compiler has refused here."""
    found = {
        (manifest.instance, manifest.flavour, entry.release): Fit(
            manifest.instance, manifest.flavour, entry.release, BUILDS
        )
        for entry in site.store.entries()
        if (manifest := entry.manifest)
    }
    for kernel, failure in failures(site.cache):
        instance = str(failure.instance)
        fit = Fit(instance, failure.flavour, kernel, REFUSED, failure.message)
        # Another build of the same may have succeeded, such as by another compiler.
        found.setdefault((fit.instance, fit.flavour, fit.kernel), fit)
    return tuple(sorted(found.values(), key=_order))


def fits(node: Node, kernels: Sequence[str]) -> tuple[Fit, ...]:
    """What is known of the node's instance, and for each of ``kernels`` of every flavour that
    the version has."""
    mine = [fit for fit in known(node.site) if fit.instance == str(node.instance)]
    there = {(fit.flavour, fit.kernel) for fit in mine}
    mine += [
        Fit(str(node.instance), flavour, kernel, UNTRIED)
        for kernel in kernels
        for flavour in _flavours(node)
        if (flavour, kernel) not in there
    ]
    return tuple(sorted(mine, key=_order))


def instead(node: Node, kernel: str, refused: str) -> str:
    """What to take for ``kernel`` in place of the flavour ``refused``; "" where nothing is
    known.

    Another flavour must be for the node's GPUs.
    """
    of_kernel = [fit for fit in known(node.site) if fit.kernel == kernel]
    states = {fit.flavour: fit.state for fit in of_kernel if fit.instance == str(node.instance)}
    others = [name for name in _flavours(node) if name != refused and _suits(node, name)]
    for state, text in (
        (BUILDS, "which builds for this kernel"),
        (None, "of the same package"),
    ):
        for name in others:
            if states.get(name) == state:
                return f"set flavour: {name}, {text}"
    other = [
        fit.instance
        for fit in of_kernel
        if fit.state == BUILDS and fit.instance.rpartition("-")[0] == node.instance.profile
    ]
    return f"take {other[-1]}, which builds for this kernel" if other else ""


def _flavours(node: Node) -> Iterator[str]:
    """Those that the version has."""
    for name, flavour in node.profile.flavours.items():
        if flavour.driver.contains(node.instance.version):
            yield name


def _suits(node: Node, flavour: str) -> bool:
    """Whether the node's GPUs work with ``flavour``, or it has none."""
    record = source.recorded(node)
    try:
        decide(
            node.profile,
            flavour,
            node.instance.version,
            [gpu.device for gpu in node.census.usable],
            record.gpus if record else None,
            require_all=node.settings.require_all_gpus,
        )
    except ModulusError:
        return False
    return True


def _order(fit: Fit) -> tuple[object, ...]:
    profile, _, version = fit.instance.rpartition("-")
    return (profile, *release_order(version), release_order(fit.kernel), fit.flavour)
