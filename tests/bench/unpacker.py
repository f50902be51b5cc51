"""Unpacks the kernel sources of a driver's package, as a build does: RUN FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from modulus.core.installer import parse_manifest
from modulus.host.archive import Archive, all_of

_TOP = "kernel/"
_MANIFEST = ".manifest"
_MANIFEST_BYTES = 16 << 20


def main() -> None:
    run, target = map(Path, sys.argv[1:])
    # Its sha256 was checked when it was fetched.
    archive = Archive(run, "run", vouched=True)
    manifest = parse_manifest(archive.read([_MANIFEST], _MANIFEST_BYTES)[_MANIFEST].decode())
    archive.extract(
        target,
        lambda name: name.removeprefix(_TOP) if name.startswith(_TOP) else None,
        enough=all_of([each.file for each in manifest.entries if each.file.startswith(_TOP)]),
    )


if __name__ == "__main__":
    main()
