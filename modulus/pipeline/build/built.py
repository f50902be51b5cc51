"""A build that is in the store."""

from __future__ import annotations

from dataclasses import dataclass

from modulus.core.build.plan import Facts
from modulus.core.build.revoked import recipe_of
from modulus.core.instance import Instance
from modulus.core.store.keys import SHORT
from modulus.host.build.proofs import wrong_modules
from modulus.host.report.reporter import Reporter
from modulus.host.store.store import Entry
from modulus.pipeline.node import Node


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


def stored(node: Node, reporter: Reporter, facts: Facts) -> Built | None:
    """The build that ``facts`` decide, if it is in the store, with every hash checked."""
    if facts.key is None:
        return None
    wrong = wrong_modules(node.paths)
    entry = node.site.store.get(facts.key, facts.kernel, reporter, wrong)
    return Built(entry, facts.kernel, facts.flavour, True, 0) if entry else None
