"""A root with just enough of /sys and /proc: PCI devices, modules, screens, processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.headertrees import link, write

PCI = "sys/devices/pci0000:00"


def pci_config(*data: bytes, flags: int = 0x10) -> bytes:
    """A configuration space whose vendor-specific capabilities hold ``data``."""
    space = bytearray(256)
    space[0x06] = flags
    position, pointer = 0x40, 0x34
    for item in (b"", *data):
        # The first capability is another one: power management.
        body = bytes([0x09, 0, len(item) + 3]) + item if item else bytes([0x01, 0, 3])
        space[pointer] = position
        space[position : position + len(body)] = body
        pointer, position = position + 1, position + 0x20
    return bytes(space)


@dataclass(frozen=True)
class FakeSys:
    """The root, and what puts things into it."""

    root: Path

    def device(
        self,
        address: str = "0000:00:05.0",
        ids: str = "10de:20b0",
        device_class: str = "0x030200",
        *,
        driver: str | None = None,
        config: bytes | None = None,
        **attributes: str,
    ) -> Path:
        """A PCI device with its attributes; ``driver`` may be ``NAME`` or ``NAME:MODULE``."""
        folder = self.root / PCI / address
        vendor, _, device = ids.partition(":")
        values = {"vendor": f"0x{vendor}", "device": f"0x{device}", "class": device_class}
        for name, value in (values | attributes).items():
            write(folder / name, f"{value}\n")
        if config is not None:
            folder.joinpath("config").write_bytes(config)
        link(
            self.root / "sys/bus/pci/devices" / address,
            f"../../../devices/pci0000:00/{address}",
        )
        if driver:
            self.bind(address, driver)
        return folder

    def bind(self, address: str, driver: str) -> None:
        name, _, module = driver.partition(":")
        folder = self.root / "sys/bus/pci/drivers" / name
        if not folder.exists():
            write(folder / "unbind", "")
            link(folder / "module", f"../../../../module/{module or name}")
            link(
                self.root / f"sys/module/{module or name}/drivers/pci:{name}",
                f"../../../bus/pci/drivers/{name}",
            )
        link(folder / address, f"../../../../devices/pci0000:00/{address}")
        link(self.root / PCI / address / "driver", f"../../../bus/pci/drivers/{name}")

    def unbound(self, driver: str) -> str:
        """What was written to the ``unbind`` of ``driver``."""
        return (self.root / "sys/bus/pci/drivers" / driver / "unbind").read_text().strip()

    def module(self, name: str, refcount: int | None = 0, *holders: str) -> None:
        """A loaded module; None is the refcount of one that is built in."""
        folder = self.root / "sys/module" / name
        folder.mkdir(parents=True, exist_ok=True)
        if refcount is not None:
            write(folder / "refcnt", f"{refcount}\n")
            folder.joinpath("holders").mkdir(exist_ok=True)
            for holder in holders:
                link(folder / "holders" / holder, f"../../{holder}")

    def screen(
        self, address: str, *, card: int | None = None, buffer: int | None = None
    ) -> None:
        """A display node and a framebuffer of a device."""
        folder = self.root / PCI / address
        if card is not None:
            write(folder / f"drm/card{card}/dev", f"226:{card}\n")
            folder.joinpath(f"drm/card{card}/card{card}-HDMI-A-1").mkdir()
        if buffer is not None:
            folder.joinpath(f"graphics/fb{buffer}").mkdir(parents=True)
            link(
                self.root / f"sys/class/graphics/fb{buffer}",
                f"../../devices/pci0000:00/{address}/graphics/fb{buffer}",
            )

    def console(self, *, bound: bool, name: str = "(M) frame buffer device") -> Path:
        folder = self.root / "sys/class/vtconsole/vtcon1"
        write(folder / "name", f"{name}\n")
        return write(folder / "bind", f"{int(bound)}\n")

    def process(
        self, pid: int, command: str = "", *targets: str, comm: str = "x", maps: str = ""
    ) -> None:
        folder = self.root / "proc" / str(pid)
        write(folder / "comm", f"{comm}\n")
        write(folder / "cmdline", "".join(f"{word}\0" for word in command.split()))
        write(folder / "maps", maps)
        for number, target in enumerate(targets):
            link(folder / "fd" / str(number), target)
