"""The program's entry point, and the only place that exits."""

from __future__ import annotations

import gc
import os
import sys

_OBJECTS = 50_000
"""Made before garbage is looked for: with the default of 700 the imports alone have that done
a hundred times, and find nothing."""


def main() -> None:
    """Runs the command line and exits with its code."""
    gc.set_threshold(_OBJECTS)
    from modulus.cli import run

    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # Closed, full, or read no more.
        sys.exit(code)
    # What was begun has ended, and there is nothing else to write: the kernel takes memory
    # back at once, where Python takes apart each module of hundreds first.
    os._exit(code)


if __name__ == "__main__":
    main()
