"""PCI devices and the ids by which profiles know them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_RANGE = re.compile(r"(0x[0-9a-fA-F]{4})(?:-(0x[0-9a-fA-F]{4}))?")


@dataclass(frozen=True)
class PciDevice:
    """A device on the PCI bus: its address and the ids that sysfs shows, as numbers.

    ``device_class`` has 24 bits: base class, subclass, programming interface.
    """

    address: str
    vendor: int
    device: int
    device_class: int

    def __str__(self) -> str:
        return f"{self.address} ({self.vendor:04x}:{self.device:04x})"


@dataclass(frozen=True)
class PciMatch:
    """Devices of a vendor and class; 16 bits each, as ``lspci -n`` shows them."""

    vendor: int
    device_class: int

    def matches(self, device: PciDevice) -> bool:
        return (self.vendor, self.device_class) == (device.vendor, device.device_class >> 8)


@dataclass(frozen=True)
class IdRange:
    """Device ids from ``first`` to ``last``, both included."""

    first: int
    last: int

    @classmethod
    def parse(cls, value: object) -> IdRange:
        """Reads ``0x31a1`` (also as a number) or ``0x2340-0x237f``; else ValueError."""
        match = _RANGE.fullmatch(f"0x{value:04x}" if type(value) is int else str(value))
        if match:
            first, last = int(match[1], 16), int(match[2] or match[1], 16)
            if first <= last:
                return cls(first, last)
        raise ValueError("must be a device id or a range of them, such as 0x2340-0x237f")

    def contains(self, device_id: int) -> bool:
        return self.first <= device_id <= self.last


def devices_of(
    matches: Iterable[PciMatch], devices: Iterable[PciDevice]
) -> tuple[PciDevice, ...]:
    """The ``devices`` that one of ``matches`` describes."""
    wanted = tuple(matches)
    return tuple(device for device in devices if any(match.matches(device) for match in wanted))
