"""The folder of the kernel's own choice that it looks for firmware in first."""

from __future__ import annotations

from pathlib import Path

PARAMETER = "sys/module/firmware_class/parameters/path"


def firmware_path(root: Path) -> str | None:
    """The folder of the kernel's own choice, empty without one; None for a kernel without."""
    try:
        return (root / PARAMETER).read_bytes().decode("utf-8", "replace").strip("\0\n")
    except OSError:
        return None
