"""Unpacks the kernel sources of a driver's package, as a build does: RUN FOLDER."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from modulus.core.package.vendor_manifest import parse_manifest
from modulus.host.archive.reader import Archive, Enough, Texts, all_of

_TOP = "kernel/"
_MANIFEST = ".manifest"
_MANIFEST_BYTES = 16 << 20


class _Enough:
    """That all sources are there, once the package has told which they are."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._all: Enough | None = None

    def __call__(self, names: Sequence[str]) -> bool:
        if self._all is None and self._texts.complete:
            manifest = parse_manifest(self._texts.found[_MANIFEST].decode())
            files = [each.file for each in manifest.entries]
            self._all = all_of([name for name in files if name.startswith(_TOP)])
        return self._all is not None and self._all(names)


def main() -> None:
    run, target = map(Path, sys.argv[1:])
    # Its sha256 is checked as it is fetched.
    archive = Archive(run, "run", vouched=True)
    texts = Texts([_MANIFEST], _MANIFEST_BYTES)
    archive.extract(
        target,
        lambda name: name.removeprefix(_TOP) if name.startswith(_TOP) else None,
        enough=_Enough(texts),
        texts=texts,
    )


if __name__ == "__main__":
    main()
