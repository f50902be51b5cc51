"""A copy of this checkout, to change and to package."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PARTS = ("CHANGELOG.md", "README.md", "docs", "modulus", "profiles", "scripts", "units")


def copy_checkout(folder: Path) -> Path:
    """Copies what the package is made of into the new ``folder``, and returns it."""
    folder.mkdir(parents=True)
    for name in _PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy2(source, folder / name)
    return folder


def set_version(checkout: Path, version: str) -> None:
    """Has the copy be another version of Modulus."""
    init, log = checkout / "modulus/__init__.py", checkout / "scripts/deb/changelog"
    old = init.read_text().split('__version__ = "')[1].split('"')[0]
    init.write_text(init.read_text().replace(f'"{old}"', f'"{version}"'))
    entry = log.read_text()
    log.write_text(entry.replace(f"({old})", f"({version})", 1) + "\n" + entry)
