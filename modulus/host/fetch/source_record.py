"""What is known of a driver's package: ``sources/INSTANCE-ARCH.json`` of a cache or a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modulus.core.instance import Instance
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.host.files import atomic
from modulus.host.files.place import writing
from modulus.host.files.record import read_record


@dataclass(frozen=True)
class PackageRecord:
    """A package's sha256, who vouches for it, and the package's own lists of GPUs and files.

    ``more`` has the fields that another version of Modulus recorded.
    """

    sha256: str
    verified_by: str
    gpus: Any = None
    manifest: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def source_path(cache: Path, instance: Instance, arch: str) -> Path:
    """Where the record of a package is in a cache or a store."""
    return cache / "sources" / f"{instance}-{arch}.json"


def read_source(path: Path) -> PackageRecord | None:
    """The record at ``path``; None where it is missing or bad."""
    return read_record(path, parse_source)


def write_source(path: Path, record: PackageRecord) -> None:
    """Writes ``record`` to ``path``; another version's fields on the same package stay. Raises
    BuildError for a full disk, ConfigError where nothing can be written."""
    before = read_source(path)
    more = before.more if before and before.sha256 == record.sha256 else {}
    with writing(path):
        atomic.write_json(
            path,
            {
                **more,
                "sha256": record.sha256,
                "verified_by": record.verified_by,
                "gpus": record.gpus,
                "manifest": record.manifest,
            },
        )


def parse_source(value: object) -> PackageRecord:
    """The record in JSON ``value``; ValueError where it is none."""
    of = Fields(value, "the record of a package")
    return PackageRecord(
        of("sha256", forms.sha256),
        of("verified_by", forms.line),
        # In the package's own form, which the reader checks.
        of("gpus", lambda gpus: gpus),
        of("manifest", forms.optional(forms.content)),
        of.rest,
    )
