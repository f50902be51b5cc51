"""Unpacks the kernel sources of a driver's package, as a build does: RUN FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from modulus.host.archive import Archive

_TOP = "kernel/"


def main() -> None:
    run, target = map(Path, sys.argv[1:])
    Archive(run, "run").extract(
        target, lambda name: name.removeprefix(_TOP) if name.startswith(_TOP) else None
    )


if __name__ == "__main__":
    main()
