"""The root that a command works on."""

from __future__ import annotations

import argparse
from pathlib import Path

from modulus.errors import UsageError


def find_root(options: argparse.Namespace) -> Path:
    """The folder that ``--root`` names, with every link followed."""
    for name in ("root", "config"):
        if getattr(options, name) == "":
            raise UsageError(f"--{name} is empty", "leave it out, or give it a path")
    root = Path(options.root).resolve()
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", "give --root the root of a system")
    return root
