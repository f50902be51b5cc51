"""Prometheus's promtool, of the distribution's package, which is not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support import packages


def promtool() -> Path:
    """The program; UnavailableError where it is not installed and cannot be downloaded."""
    installed = shutil.which("promtool")
    if installed:
        return Path(installed)
    deb = packages.download("prometheus")
    final = packages.cache_folder() / "tools" / deb.stem / "promtool"
    with packages.locked("tools"):
        if not final.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            scratch = final.with_name(".promtool")
            with scratch.open("wb") as file:
                tar = subprocess.Popen(
                    ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE
                )
                member = ["tar", "-xO", "./usr/bin/promtool"]
                subprocess.run(member, stdin=tar.stdout, stdout=file, check=True)
                assert tar.stdout
                tar.stdout.close()
                tar.wait()
            scratch.chmod(0o755)
            scratch.rename(final)
    return final
