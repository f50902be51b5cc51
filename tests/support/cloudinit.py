"""cloud-init itself, to judge user-data; unpacked, never installed: its services stay away."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from tests.support.packages import cache_folder, candidate, download, locked, unpack

# What `cloud-init schema` imports. The first is cloud-init, whose version counts.
_PACKAGES = (
    "cloud-init",
    "python3-attr",
    "python3-configobj",
    "python3-json-pointer",
    "python3-jsonpatch",
    "python3-jsonschema",
    "python3-pyrsistent",
    "python3-jinja2",
    "python3-markupsafe",
    "python3-requests",
    "python3-certifi",
    "python3-chardet",
    "python3-idna",
    "python3-urllib3",
    "python3-six",
    "python3-yaml",
)


def schema_errors(file: Path) -> str:
    """What ``cloud-init schema`` of the distribution finds wrong with ``file``; or nothing.

    Raises UnavailableError where cloud-init cannot be had.
    """
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "cloudinit.cmd.main", "schema", "--config-file", str(file)],
        env={
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(_tree() / "usr/lib/python3/dist-packages"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    return "" if done.returncode == 0 and said.startswith("Valid cloud-config") else said


@functools.cache
def _tree() -> Path:
    final = cache_folder() / "cloud-init" / candidate(_PACKAGES[0])
    with locked("cloud-init"):
        if not final.exists():
            shutil.rmtree(final.parent, ignore_errors=True)
            scratch = final.parent / ".new"
            for package in _PACKAGES:
                unpack(download(package), scratch)
            scratch.rename(final)
    return final
