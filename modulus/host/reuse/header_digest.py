"""Looks at a whole header tree for what ``core.build.twin`` compares."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from modulus.core.build.twin import Survey, names_release, neutral
from modulus.core.record import forms
from modulus.core.record.json_text import parse_json
from modulus.core.store.keys import digest
from modulus.host.archive.zstd import unpack
from modulus.host.files.regular import open_regular

_SHORT = 16
_LEVEL = 3
_MOST_LISTING = 16 << 20
"""Bytes; a distribution's tree has one megabyte."""


def survey(tree: Path, release: str) -> Survey:
    """Reads every file of the header tree ``tree`` of kernel ``release``; OSError."""
    listing: dict[str, tuple[str, str]] = {}
    named: list[str] = []
    _walk(str(tree), len(str(tree)) + 1, release, listing, named)
    return Survey(
        digest([[path, *entry] for path, entry in sorted(listing.items())]),
        {path: f"{kind}{text[:_SHORT]}" for path, (kind, text) in listing.items()},
        tuple(sorted(named)),
    )


def _walk(
    folder: str,
    cut: int,
    release: str,
    listing: dict[str, tuple[str, str]],
    named: list[str],
) -> None:
    for entry in os.scandir(folder):
        name = entry.path[cut:]
        if entry.is_symlink():
            listing[name] = ("l", os.readlink(entry.path))
        elif entry.is_dir(follow_symlinks=False):
            _walk(entry.path, cut, release, listing, named)
        else:
            with open_regular(entry.path, follow=False) as file:
                data = file.readall()
                executable = os.fstat(file.fileno()).st_mode & 0o100
            if names_release(data):
                named.append(name)
            found = hashlib.sha256(neutral(name, data, release)).hexdigest()
            listing[name] = ("x" if executable else "f", found)


def write_listing(path: Path, listing: Mapping[str, str]) -> None:
    """Writes a survey's short digests to a new file."""
    import zstandard

    data = json.dumps(listing, sort_keys=True).encode()
    path.write_bytes(zstandard.ZstdCompressor(level=_LEVEL).compress(data))


def read_listing(path: Path) -> Mapping[str, str]:
    """The short digests by path; ValueError for anything else, OSError."""
    with open_regular(path, follow=False) as file:
        return _LISTING(parse_json(unpack(file, _MOST_LISTING), _MOST_LISTING))


_LISTING = forms.map_of(forms.relative, forms.line, _MOST_LISTING)
