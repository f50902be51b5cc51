"""The program's entry point, and the only place that exits."""

from __future__ import annotations

import gc
import os
import sys

_OBJECTS = 50_000
"""Objects made before garbage is looked for: with the default of 700 the imports alone start a
hundred searches, which find nothing."""


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
    # All work has ended and all output is written: the kernel takes memory back at once, where
    # Python would first take apart hundreds of modules.
    os._exit(code)


if __name__ == "__main__":
    main()
