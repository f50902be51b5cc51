"""What a node is given from outside: a mirror with Modulus and the driver, and user-data."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.mirror import Mirror
from tests.support.vm.image import STORE
from tests.support.vm.machine import HOST
from tests.support.vm.store import Store

_SOURCE = Path(__file__).parents[3]


class Site:
    """A mirror that guests reach, until its ``with`` ends; ``folder`` takes the package."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store = store
        made = subprocess.run(
            [_SOURCE / "scripts/package", folder], check=True, stdout=subprocess.PIPE, text=True
        )
        self.package = Path(made.stdout.strip())
        self.mirror = Mirror()
        self._settings = folder / "settings.yaml"

    def __enter__(self) -> Site:
        self.mirror.__enter__()
        self.mirror.serve(f"/{self.package.name}", self.package)
        self.mirror.serve(f"/{self.store.run.name}", self.store.run)
        self.mirror.serve_checksum(f"/{self.store.run.name}")
        return self

    def __exit__(self, *error: object) -> None:
        self.mirror.__exit__(*error)

    @property
    def url(self) -> str:
        """The mirror, as guests see it."""
        return f"http://{HOST}:{self.mirror.port}"

    def settings(self, **changed: Any) -> dict[str, Any]:
        """The settings of a node with a stand-in for a GPU, which is never usable.

        Offline: headers and toolchain come from the store, as the image has no apt sources.
        """
        run = {"url": f"{self.url}/NVIDIA-Linux-{{arch}}-{{version}}.run", "trusted": True}
        nvidia = {"mirrors": [run], "ready_when": "nodes"}
        return {"stores": [STORE], "offline": True, "drivers": {"nvidia": nvidia}, **changed}

    def user_data(self, instance: str, **changed: Any) -> str:
        """What ``modulus render user-data`` prints, with settings changed."""
        self._settings.write_text(yaml.safe_dump(self.settings(**changed)))
        digest = hashlib.sha256(self.package.read_bytes()).hexdigest()
        words = [
            *(sys.executable, "-m", "modulus", "render", "user-data", instance),
            *("--config", str(self._settings), "--package", f"{self.url}/{self.package.name}"),
            *("--package-sha256", digest),
        ]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("MODULUS_")
        }
        done = subprocess.run(
            words, cwd=_SOURCE, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout
