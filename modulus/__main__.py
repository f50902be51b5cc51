"""The program's entry point, and the only place that exits."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line and exits with its code."""
    from modulus.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
