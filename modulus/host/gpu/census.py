"""Takes a census of the GPUs in a root's sysfs, and corrects their NUMA node."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from modulus.core.gpu.census import Census, Gpu, has_signature, kind_of
from modulus.core.kernel.moddep import module_name
from modulus.core.pci import PciDevice, devices_of
from modulus.core.profile.profile import Profile
from modulus.host.files import sysfs
from modulus.host.files.paths import resolve
from modulus.host.kernel.probe import pci_devices
from modulus.host.report.reporter import Reporter

_CONFIG_SIZE = 256


def take_census(
    root: Path, profile: Profile, devices: Iterable[PciDevice] | None = None
) -> Census:
    """The GPUs that ``profile.pci`` describes, among ``devices`` or all on the bus."""
    if not profile.pci:
        return Census(required=False)
    found = devices_of(profile.pci, pci_devices(root) if devices is None else devices)
    return Census(required=True, gpus=tuple(_gpu(root, device, profile) for device in found))


def _gpu(root: Path, device: PciDevice, profile: Profile) -> Gpu:
    folder = device_folder(root, device.address)
    driver = sysfs.link_name(folder / "driver")
    vgpu = profile.vgpu is not None and has_signature(
        _config(folder / "config"), profile.vgpu.signature
    )
    kind = kind_of(
        driver,
        # "(null)" where none is set.
        sysfs.text(folder / "driver_override"),
        virtual_function=os.path.lexists(folder / "physfn"),
        vgpu=vgpu,
    )
    # A driver that is built in may have no module.
    module = sysfs.link_name(root / f"sys/bus/pci/drivers/{driver}/module") if driver else None
    return Gpu(device, kind, driver, module, sysfs.number(folder / "numa_node"))


def device_folder(root: Path, address: str) -> Path:
    """Where a PCI device's attributes are."""
    return resolve(root, f"/sys/bus/pci/devices/{address}")


def _config(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_CONFIG_SIZE)
    except OSError:
        return b""


def fix_numa(root: Path, census: Census, reporter: Reporter) -> None:
    """Sets the NUMA node of usable GPUs to 0 where it is -1; call it before a driver reads it.

    The kernel marks itself tainted (firmware workaround) for each write
    (Documentation/ABI/testing/sysfs-bus-pci). A refused write is a warning.
    """
    for gpu in census.usable:
        if gpu.numa_node == -1:
            path = device_folder(root, gpu.address) / "numa_node"
            try:
                sysfs.write(path, "0\n")
            except OSError as error:
                reporter.warn(f"cannot set {path} to 0: {error.strerror}")
            else:
                reporter.phase("load", f"GPU {gpu.address}: NUMA node set to 0")


def bind_free(root: Path, addresses: Iterable[str], modules: Iterable[str]) -> None:
    """Binds the PCI devices without a driver to a driver of one of ``modules``.

    A module that is loaded binds the free devices itself, not those that another driver gives
    up later. The kernel refuses devices that a driver is not for.
    """
    drivers = [
        name.removeprefix("pci:")
        for module in modules
        for name in sysfs.names(root / "sys/module" / module_name(module) / "drivers")
        if name.startswith("pci:")
    ]
    for address in addresses:
        for driver in drivers:
            if sysfs.link_name(device_folder(root, address) / "driver") is None:
                with contextlib.suppress(OSError):
                    sysfs.write(root / "sys/bus/pci/drivers" / driver / "bind", f"{address}\n")
