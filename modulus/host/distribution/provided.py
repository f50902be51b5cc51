"""Checks all headers and toolchains that are kept against the digests in their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modulus.host.distribution.entries import Entries
from modulus.host.distribution.headers import header_entries
from modulus.host.distribution.provisioner import providing
from modulus.host.distribution.toolchain import outdated, toolchain_entries
from modulus.host.report.reporter import Reporter


@dataclass(frozen=True)
class Held:
    """An entry of ``kind`` (headers, toolchains); ``problem`` is None for a good one.

    ``path`` is where it is now: a bad one of the node's own is in ``bad/``.
    """

    kind: str
    id: str
    path: Path
    problem: str | None


def check_provided(
    cache: Path, stores: Sequence[Path], reporter: Reporter, lock_timeout: float | None
) -> Iterator[Held]:
    """Every entry of ``cache`` and ``stores``, wholly hashed; bad ones in ``cache`` are set
    aside. Outdated entries are left out: they are not named by their content."""
    toolchains = toolchain_entries(cache, stores)
    passed_over = outdated(toolchains)
    for entries in (header_entries(cache, stores), toolchains):
        for path in entries.all():
            if path in passed_over:
                continue
            problem = entries.damage(path)
            place = path
            if problem and entries.is_own(path):
                with providing(cache, f"{path}", reporter, lock_timeout):
                    place = _set_aside(entries, path) or path
            yield Held(entries.kind, path.name, place, problem)


def _set_aside(entries: Entries, path: Path) -> Path | None:
    """Sets it aside, unless a good entry has taken its place meanwhile."""
    return entries.discard(path) if entries.damage(path) else None
