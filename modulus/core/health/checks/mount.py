"""Whether the file system that holds the driver lets its programs and libraries run."""

from __future__ import annotations

from collections.abc import Iterator

from modulus.core.findings import Finding
from modulus.core.kernel.mountinfo import Mount


def check_mount(folder: str, mount: Mount | None) -> Iterator[Finding]:
    """Whether files in ``folder``, which ``mount`` holds, may be run and mapped."""
    if mount and "noexec" in mount.options:
        yield Finding(
            "opt-noexec",
            "usable",
            "error",
            f"nothing in {folder} can be run",
            f"{mount.point} ({mount.source}) is mounted noexec",
            f"mount -o remount,exec {mount.point}, and take noexec out of /etc/fstab",
        )
