"""The disk by which cloud-init gets its user-data (its data source NoCloud)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def make_seed(path: Path, user_data: str) -> None:
    """Writes the disk; the machine is ``node``."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        folder = Path(scratch)
        (folder / "user-data").write_text(user_data)
        (folder / "meta-data").write_text("instance-id: node\nlocal-hostname: node\n")
        # cloud-init takes only FAT and ISO 9660 file systems with this label.
        subprocess.run(
            ["genisoimage", "-quiet", "-V", "cidata", "-J", "-r", "-o", path, folder],
            check=True,
            timeout=60,
        )
