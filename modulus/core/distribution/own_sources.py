"""Which of a node's apt sources can be the distribution's own.

They are then asked with the distribution's keys alone, and kept where what these have signed is
of its release: what they are called in the node's sources decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from modulus.core.distribution.apt_sources import AptSource
from modulus.core.distribution.families import Distribution

_SCHEMES = (
    "http",
    "https",
    "ftp",
    "file",
    "copy",
    "mirror+file",
    "mirror+http",
    "mirror+https",
)


def own(
    sources: Iterable[AptSource], distribution: Distribution
) -> tuple[tuple[AptSource, ...], tuple[str, ...]]:
    """Those of ``sources`` that can be the distribution's, with the components that are used,
    and a line with the reason against each other one."""
    kept, refused = [], []
    for source in sources:
        known = distribution.family.components
        narrowed = replace(
            source, components=tuple(name for name in source.components if name in known)
        )
        reason = _objection(narrowed, distribution)
        if reason:
            refused.append(f"{source}: {reason}")
        else:
            kept.append(narrowed)
    return tuple(kept), tuple(refused)


def unsafe(source: AptSource) -> str | None:
    """What rules ``source`` out, whoever signs it, or None."""
    if source.insecure:
        return f"marked {source.insecure}"
    if source.uri.partition(":")[0] not in _SCHEMES:
        return "no kind of address that is used"
    return None


def _objection(source: AptSource, distribution: Distribution) -> str | None:
    if reason := unsafe(source):
        return reason
    archive = distribution.family.archive_at(source.host)
    if source.signed_by and not archive.is_own_key(source.signed_by):
        return "signed by keys that are not the distribution's"
    if not source.components:
        return "no component of the distribution"
    return None
