"""What this node is: its kernels, its distribution and its PCI devices, read below a root."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modulus.core.distribution.families import identify
from modulus.core.distribution.os_release import parse_os_release
from modulus.core.kernel.identity import KernelId, parse_build_id
from modulus.core.pci import PciDevice
from modulus.core.version import release_order
from modulus.host.files.paths import resolve
from modulus.host.files.regular import read_text

if TYPE_CHECKING:
    from modulus.core.distribution.families import Distribution

_PCI = "/sys/bus/pci/devices"


@dataclass(frozen=True)
class Host:
    """What a node is; ``running`` is None where no kernel can be seen below the root.

    ``os_release_text`` is its os-release(5).
    """

    running: str | None
    kernels: tuple[str, ...]
    machine: str
    os_release_text: str
    pci: tuple[PciDevice, ...]

    @property
    def os_release(self) -> Mapping[str, str]:
        """What its os-release(5) assigns."""
        return parse_os_release(self.os_release_text)

    @property
    def distribution(self) -> Distribution | None:
        """Its distribution, None for one whose packages Modulus does not know."""
        return identify(self.os_release, self.machine)


def probe(root: Path) -> Host:
    """Reads what the node below ``root`` is; what cannot be read counts as absent."""
    kernel = root / "proc/sys/kernel"
    os_release = _text(resolve(root, "/etc/os-release")) or _text(
        resolve(root, "/usr/lib/os-release")
    )
    return Host(
        running=_text(kernel / "osrelease"),
        kernels=installed_kernels(root),
        # /proc/sys/kernel/arch is there since Linux 6.1.
        machine=_text(kernel / "arch") or os.uname().machine,
        os_release_text=os_release or "",
        pci=pci_devices(root),
    )


def running_kernel(root: Path) -> KernelId | None:
    """The kernel that runs below ``root``; None where none can be seen."""
    release = _text(root / "proc/sys/kernel/osrelease")
    if release is None:
        return None
    try:
        notes = (root / "sys/kernel/notes").read_bytes()
    except OSError:
        notes = b""
    return KernelId(release, _text(root / "proc/sys/kernel/version"), parse_build_id(notes))


def installed_kernels(root: Path) -> tuple[str, ...]:
    """The releases installed below ``root``, oldest first. Remains of a removed package do not
    count: they lack ``modules.builtin``."""
    modules = resolve(root, "/lib/modules")
    found = [path.parent.name for path in modules.glob("*/modules.builtin")]
    return tuple(sorted(found, key=release_order))


def pci_devices(root: Path) -> tuple[PciDevice, ...]:
    """The PCI devices in ``root``'s sysfs, by address."""
    found = []
    for entry in sorted((root / _PCI.lstrip("/")).glob("*")):
        # Entries are links into /sys/devices; a copied tree may have folders, or its links
        # lead out of it.
        folder = entry if root == Path("/") else resolve(root, f"{_PCI}/{entry.name}")
        numbers = [_number(folder / name) for name in ("vendor", "device", "class")]
        vendor, device, device_class = numbers
        if vendor is not None and device is not None and device_class is not None:
            found.append(PciDevice(entry.name, vendor, device, device_class))
    return tuple(found)


def _text(path: Path) -> str | None:
    try:
        return read_text(path).strip() or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path) or "", 16)
    except ValueError:
        return None
