"""Reads and writes short texts, such as sysfs' and procfs'; what cannot be read is absent."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from modulus.host.files.regular import read_text


def text(path: Path) -> str | None:
    """The text of ``path``, without white space around it; None if empty or not readable."""
    try:
        return read_text(path).strip() or None
    except OSError:
        return None


def number(path: Path) -> int | None:
    """The decimal number in ``path``; None without one."""
    try:
        return int(text(path) or "")
    except ValueError:
        return None


def link_name(path: Path) -> str | None:
    """The last part of what the link ``path`` points to, such as a device's driver."""
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return None


def names(path: Path) -> tuple[str, ...]:
    """The names in the folder ``path``, sorted."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        found = os.listdir(path)
    return tuple(sorted(found))


def write(path: Path, value: str) -> None:
    """Writes an attribute; never makes a file. Raises OSError where the kernel refuses."""
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(handle, value.encode())
    finally:
        os.close(handle)
