"""The kernel's messages about devices that come and go (kobject_uevent_env() in lib/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modulus.core.pci import PciDevice


@dataclass(frozen=True)
class Uevent:
    """One message: ``action`` is ``add``, ``remove``, ``bind``, ``unbind`` and the like."""

    action: str
    subsystem: str
    fields: Mapping[str, str]


def parse_uevent(data: bytes) -> Uevent | None:
    """The message in a datagram; None for anything else, such as udevd's own messages.

    A message is ``ACTION@DEVPATH``, then NAME=VALUE fields, each ended by a zero byte.
    """
    head, *rest = data.decode("utf-8", "replace").split("\0")
    action, sign, path = head.partition("@")
    fields = dict(text.split("=", 1) for text in rest if "=" in text)
    if not sign or not path.startswith("/") or fields.get("ACTION") != action:
        return None
    return Uevent(action, fields.get("SUBSYSTEM", ""), fields)


def pci_device(event: Uevent) -> PciDevice | None:
    """The PCI device that ``event`` is about, None for another kind of device.

    Its ids are hexadecimal: PCI_ID is VENDOR:DEVICE, PCI_CLASS has no leading zeros
    (pci_uevent() in drivers/pci/pci-driver.c).
    """
    if event.subsystem != "pci":
        return None
    try:
        vendor, device = event.fields["PCI_ID"].split(":")
        return PciDevice(
            event.fields["PCI_SLOT_NAME"],
            int(vendor, 16),
            int(device, 16),
            int(event.fields["PCI_CLASS"], 16),
        )
    except (KeyError, ValueError):
        return None
