"""The package's own list of the GPUs it supports, read as a profile says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modulus.core.profile.profile import GpuListFormat
from modulus.errors import IntegrityError


@dataclass(frozen=True)
class ListedGpu:
    """What the package says of a GPU: ``legacy`` is the branch that still supports it."""

    name: str
    features: frozenset[str]
    legacy: str | None


GpuList = Mapping[int, ListedGpu]
"""The package's own list of GPUs, by PCI device id."""


def parse_gpu_list(form: GpuListFormat, document: Any) -> GpuList:
    """The package's list from its JSON ``document``, read as the profile says.

    Entries of one id (they differ in the board) are merged; without a document no GPU is
    listed. Raises IntegrityError for anything else.
    """
    if document is None:
        return {}
    entries = document.get(form.entries) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise _damaged(form, f"it has no list {form.entries}")
    found: dict[int, ListedGpu] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise _damaged(form, f"an entry of {form.entries} is not a mapping")
        try:
            device_id = int(entry[form.id], 16)
        except (KeyError, TypeError, ValueError):
            raise _damaged(form, f"an entry of {form.entries} has no {form.id}") from None
        features = entry.get(form.features, [])
        if not isinstance(features, list):
            raise _damaged(form, f"{form.features} of {entry[form.id]} is not a list")
        legacy = entry.get(form.legacy)
        gpu = ListedGpu(
            str(entry.get(form.name, "")),
            frozenset(map(str, features)),
            None if legacy is None else str(legacy),
        )
        before = found.get(device_id)
        found[device_id] = _together(before, gpu) if before else gpu
    return found


def _together(one: ListedGpu, other: ListedGpu) -> ListedGpu:
    """Merges two boards of one GPU; a board that is still supported shows that its GPU is."""
    legacy = one.legacy if one.legacy and other.legacy else None
    return ListedGpu(one.name or other.name, one.features | other.features, legacy)


def _damaged(form: GpuListFormat, why: str) -> IntegrityError:
    return IntegrityError(
        f"{form.path}: {why}", "download the driver again, or update Modulus for its new form"
    )
