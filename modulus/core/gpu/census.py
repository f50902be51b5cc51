"""The GPUs that a node has for a driver: what each one is, and messages about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from modulus.core.findings import Finding
from modulus.core.kernel.moddep import module_name
from modulus.core.pci import PciDevice
from modulus.errors import NoGpuError

GPU, VGPU, PASSTHROUGH, VIRTUAL_FUNCTION = "gpu", "vgpu", "passthrough", "virtual-function"

_PASSED = frozenset({"vfio-pci", "pci-stub", "pciback", "xen-pciback"})
_STATUS, _HAS_CAPABILITIES, _FIRST_CAPABILITY, _VENDOR_SPECIFIC = 0x06, 0x10, 0x34, 0x09


@dataclass(frozen=True)
class Gpu:
    """A device that the profile's ``pci`` describes.

    ``kind`` is ``gpu``, ``vgpu`` (a hypervisor's share of one), ``passthrough`` (kept for a
    virtual machine) or ``virtual-function`` (SR-IOV). ``driver`` is what it is bound to,
    ``module`` that driver's module; ``numa_node`` is None where sysfs has none.
    """

    device: PciDevice
    kind: str = GPU
    driver: str | None = None
    module: str | None = None
    numa_node: int | None = None

    @property
    def address(self) -> str:
        return self.device.address

    def __str__(self) -> str:
        return f"{self.address} {self.device.vendor:04x}:{self.device.device:04x}"


@dataclass(frozen=True)
class Census:
    """The node's GPUs; ``required`` is False for a driver that needs none."""

    required: bool
    gpus: tuple[Gpu, ...] = ()

    @property
    def usable(self) -> tuple[Gpu, ...]:
        """The GPUs that the driver can be bound to."""
        return tuple(gpu for gpu in self.gpus if gpu.kind in (GPU, VGPU))

    @property
    def missing(self) -> bool:
        """Whether the driver needs a GPU and has none."""
        return self.required and not self.usable

    def of_kind(self, kind: str) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.gpus if gpu.kind == kind)

    def held_by(self, modules: Iterable[str]) -> tuple[Gpu, ...]:
        """The usable GPUs that are bound to a driver of one of ``modules``."""
        named = {module_name(module) for module in modules}
        return tuple(gpu for gpu in self.usable if named & {gpu.module, gpu.driver})

    @property
    def text(self) -> str:
        """Text such as ``2 GPUs (0000:00:05.0 10de:20b0, …), 1 passed through``."""
        parts = []
        if not self.usable or self.of_kind(GPU):
            parts.append(_listed(self.of_kind(GPU), "GPU"))
        if self.of_kind(VGPU):
            parts.append(_listed(self.of_kind(VGPU), "virtual GPU"))
        if self.of_kind(VIRTUAL_FUNCTION):
            parts.append(_counted(len(self.of_kind(VIRTUAL_FUNCTION)), "virtual function"))
        if self.of_kind(PASSTHROUGH):
            parts.append(f"{len(self.of_kind(PASSTHROUGH))} passed through")
        return ", ".join(parts)


def kind_of(
    driver: str | None, override: str | None, *, virtual_function: bool, vgpu: bool
) -> str:
    """The kind of a device, by the driver it is bound to and the one that is set for it."""
    if _passes(driver) or _passes(override):
        return PASSTHROUGH
    if virtual_function:
        return VIRTUAL_FUNCTION
    return VGPU if vgpu else GPU


def _passes(driver: str | None) -> bool:
    """Whether ``driver`` keeps a device for virtual machines; vendors' variants of vfio-pci
    are called something-vfio-pci."""
    name = (driver or "").replace("_", "-")
    return name in _PASSED or name.endswith("-vfio-pci")


def has_signature(config: bytes, signature: str) -> bool:
    """Whether a device says ``signature`` in a vendor-specific capability (PCI 2.2, 6.7).

    ``config`` is its configuration space; only root sees more than the first 64 bytes.
    """
    wanted = signature.encode()
    return any(data.startswith(wanted) for data in _vendor_data(config))


def _vendor_data(config: bytes) -> Iterator[bytes]:
    """What follows id, next and length of each vendor-specific capability."""
    if len(config) <= _FIRST_CAPABILITY or not config[_STATUS] & _HAS_CAPABILITIES:
        return
    seen = set()
    position = config[_FIRST_CAPABILITY] & 0xFC
    # Damaged chains may form a circle, or lead out of what could be read.
    while position and position not in seen and position + 2 < len(config):
        seen.add(position)
        kind, following, length = config[position : position + 3]
        if kind == _VENDOR_SPECIFIC:
            yield config[position + 3 : position + length]
        position = following & 0xFC


def no_gpu(census: Census, driver: str) -> NoGpuError:
    """Why ``driver`` has no GPU on this node, and what to do."""
    passed = census.of_kind(PASSTHROUGH)
    if passed:
        return NoGpuError(
            f"no GPU for {driver}: "
            + ", ".join(
                f"{gpu} is passed through ({gpu.driver or 'unbound'})" for gpu in passed
            ),
            "give it back to this node (driver_override, its binding), or disable the driver",
        )
    if census.gpus:
        return NoGpuError(
            f"no GPU for {driver}: {census.text}",
            "virtual functions are for virtual machines; disable the driver on this node",
        )
    return NoGpuError(
        f"no GPU for {driver} on the PCI bus",
        "look at lspci -nn; for a node that gets one later set on_no_gpu: wait or build-only",
    )


def vgpu_findings(census: Census) -> tuple[Finding, ...]:
    """Warnings about virtual GPUs: the driver for real ones does not start them."""
    return tuple(
        Finding(
            "virtual-gpu",
            "usable",
            "warning",
            f"GPU {gpu} is a virtual one",
            "a hypervisor gives this machine a share of a GPU, which needs the vendor's guest "
            "driver",
            "use the guest driver's package that belongs to the hypervisor's, from a mirror of "
            "your own",
        )
        for gpu in census.of_kind(VGPU)
    )


def _listed(gpus: Iterable[Gpu], what: str) -> str:
    names = [str(gpu) for gpu in gpus]
    return f"{_counted(len(names), what)} ({', '.join(names)})" if names else f"no {what}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
