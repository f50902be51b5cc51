"""The folder in which the kernel looks for firmware first."""

from __future__ import annotations

from pathlib import Path

PARAMETER = "sys/module/firmware_class/parameters/path"


def firmware_path(root: Path) -> str | None:
    """The kernel's ``firmware_class.path``, empty if not set; None for a kernel without it."""
    try:
        return (root / PARAMETER).read_bytes().decode("utf-8", "replace").strip("\0\n")
    except OSError:
        return None
