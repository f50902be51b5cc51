"""The disk of a node that has Modulus and its settings and has not been booted yet.

A boot with cloud-init takes a minute under emulation, and installing a package in there half of
one. What user-data does is tested where it is the matter; other tests start from this disk.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.support.vm.image import Image, make_ext4, vm_folder
from tests.support.vm.site import Site

_SETTINGS = "etc/modulus/modulus.yaml"
_HOOK = (
    '#!/bin/sh\n[ "$1" = prereqs ] && exit\n. /usr/share/initramfs-tools/hook-functions\n'
    "manual_add_modules {}\n"
)
_SIZE = "8G"  # as the image has it


def make_installed(path: Path, image: Image, site: Site, *, early: Sequence[str] = ()) -> None:
    """Writes the image's files to a new disk, with the package installed by dpkg itself and
    the settings of ``site``; no unit is enabled. The modules ``early`` are in its initramfs."""
    with tempfile.TemporaryDirectory(dir=vm_folder()) as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        _do("debugfs", "-R", f"rdump / {root}", image.path)
        (root / "lost+found").rmdir()
        # Its maintainer scripts run in there, and find no systemd to talk to.
        _do("dpkg", "--root", root, "--install", site.package)
        settings = root / _SETTINGS
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(yaml.safe_dump(site.settings()))
        if early:
            hook = root / "etc/initramfs-tools/hooks/early"
            hook.write_text(_HOOK.format(" ".join(early)))
            hook.chmod(0o755)
            _do("chroot", root, "update-initramfs", "-u", "-k", image.release)
        make_ext4(path, root, "root", _SIZE)


def _do(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words[0]}: {done.stderr}"
