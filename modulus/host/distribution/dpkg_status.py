"""What a Debian-like node has installed, read from dpkg's own record without running dpkg."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modulus.core.distribution.deb822 import stanzas
from modulus.host.files.paths import resolve
from modulus.host.files.regular import read_bytes


def installed_versions(root: Path, packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of ``packages`` that are installed below ``root``.

    The record has some megabytes: only the stanzas asked for are parsed.
    """
    try:
        record = b"\n" + read_bytes(resolve(root, "/var/lib/dpkg/status"))
    except OSError:
        return {}
    found = {}
    for package in packages:
        start = record.find(f"\nPackage: {package}\n".encode())
        if start < 0:
            continue
        end = record.find(b"\n\n", start)
        text = record[start + 1 : end if end >= 0 else len(record)].decode("utf-8", "replace")
        for fields in stanzas(text):
            if fields.get("status", "").endswith(" installed") and "version" in fields:
                found[package] = fields["version"]
    return found
