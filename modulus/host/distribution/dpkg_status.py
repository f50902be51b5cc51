"""What a Debian-like node has installed, read from dpkg's own record without running dpkg.

While dpkg runs, its record is behind: it writes each change into a file of its own below
``updates``, and all of them into ``status`` at its end, or after some hundreds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from modulus.core.distribution.deb822 import stanzas
from modulus.host.files.paths import resolve
from modulus.host.files.regular import read_bytes

_FOLDER = "/var/lib/dpkg"
_AT_REST = ("installed", "config-files", "not-installed")
"""The states of dpkg(1) in which a package stays."""


def installed_versions(root: Path, packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of ``packages`` that are installed below ``root``."""
    return {
        package: fields["version"]
        for package, fields in _known(root, packages)
        if _state(fields) == "installed" and "version" in fields
    }


def unfinished(root: Path, packages: Iterable[str]) -> tuple[str, ...]:
    """Those of ``packages`` that dpkg has begun to install, upgrade or remove, and is not done
    with. One whose scripts have failed stays so until somebody has dpkg try again."""
    return tuple(
        package for package, fields in _known(root, packages) if _state(fields) not in _AT_REST
    )


def _known(root: Path, packages: Iterable[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """What dpkg knows of each of ``packages`` that it knows.

    The record has some megabytes: only the stanzas asked for are parsed.
    """
    # Before the record: dpkg removes a change once the record has it.
    changes = _changes(root)
    try:
        record = b"\n" + read_bytes(resolve(root, f"{_FOLDER}/status"))
    except OSError:
        record = b""
    for package in packages:
        # The last one counts.
        for text in (*reversed(changes), record):
            fields = _stanza(text, package)
            if fields:
                yield package, fields
                break


def _changes(root: Path) -> list[bytes]:
    """The changes that the record may not have yet, in their order."""
    found = []
    with contextlib.suppress(OSError):
        folder = resolve(root, f"{_FOLDER}/updates")
        for name in sorted(os.listdir(folder)):
            # dpkg gives what is ready a number, and calls no other file so.
            if name.isdecimal():
                with contextlib.suppress(OSError):
                    found.append(b"\n" + read_bytes(folder / name, follow=False))
    return found


def _stanza(record: bytes, package: str) -> Mapping[str, str] | None:
    start = record.find(f"\nPackage: {package}\n".encode())
    if start < 0:
        return None
    end = record.find(b"\n\n", start)
    text = record[start + 1 : end if end >= 0 else len(record)].decode("utf-8", "replace")
    return next(stanzas(text), None)


def _state(fields: Mapping[str, str]) -> str:
    """The last word of the status, such as ``install ok installed``."""
    return fields.get("status", "").rpartition(" ")[2]
