"""Which of the installed kernels the next boot takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_LINKS = ("vmlinuz", "boot/vmlinuz")


def default_kernel(root: Path, kernels: Sequence[str]) -> str | None:
    """The one of ``kernels`` (releases, oldest first) that boots unless told otherwise.

    Debian and Ubuntu link ``/vmlinuz`` or ``/boot/vmlinuz`` to it (linux-update-symlinks(1));
    elsewhere boot loaders put the newest first. None where no kernel is installed.
    """
    for link in _LINKS:
        try:
            release = Path(os.readlink(root / link)).name.partition("-")[2]
        except OSError:
            continue
        if release in kernels:
            return release
    return kernels[-1] if kernels else None
