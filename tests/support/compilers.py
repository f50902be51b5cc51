"""The C compilers of this machine."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path


def compilers() -> list[str]:
    """The names by which PATH has versions of gcc, each once; gcc if it has none."""
    folders = os.environ["PATH"].split(os.pathsep)
    names = {path.name for folder in folders for path in Path(folder).glob("gcc-*")}
    found: dict[str, str] = {}
    for name in [*sorted(name for name in names if re.fullmatch(r"gcc-\d+", name)), "gcc"]:
        path = shutil.which(name)
        if path:
            found.setdefault(os.path.realpath(path), name)
    return list(found.values()) or ["gcc"]
