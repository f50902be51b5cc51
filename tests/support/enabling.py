"""How a driver's unit is enabled in a root."""

from __future__ import annotations

from pathlib import Path

from tests.support import headertrees


def enable(root: Path, instance: str) -> None:
    folder = root / "etc/systemd/system/multi-user.target.wants"
    headertrees.link(
        folder / f"modulus@{instance}.service", "/usr/lib/systemd/system/modulus@.service"
    )
