"""What a PCI device shows on screens: its display nodes, framebuffers and the console."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from modulus.core.modules.in_use import NodeSet
from modulus.core.modules.rivals import Framebuffer, has_console, parse_framebuffers
from modulus.host.files import sysfs
from modulus.host.gpu.census import device_folder

_FB_MAJOR = 29
"""Documentation/admin-guide/devices.txt."""
_FRAMEBUFFER = re.compile(r"fb([0-9]+)")
_CONSOLES = "sys/class/vtconsole"


def display_nodes(root: Path, addresses: Iterable[str]) -> NodeSet:
    """The device nodes of PCI devices: those below ``/dev/dri``, and ``/dev/fb*``."""
    numbers, paths = set(), set()
    for address in addresses:
        folder = device_folder(root, address)
        for name in sysfs.names(folder / "drm"):
            paths.add(f"/dev/dri/{name}")
            found = re.fullmatch(
                r"([0-9]+):([0-9]+)", sysfs.text(folder / "drm" / name / "dev") or ""
            )
            if found:
                numbers.add((int(found[1]), int(found[2])))
        for buffer in framebuffers(root, address):
            paths.add(f"/dev/fb{buffer.number}")
            numbers.add((_FB_MAJOR, buffer.number))
    return NodeSet(numbers=frozenset(numbers), paths=frozenset(paths))


def framebuffers(root: Path, address: str) -> tuple[Framebuffer, ...]:
    """The framebuffers of a PCI device."""
    folder = device_folder(root, address)
    boot_vga = _is_boot_vga(folder)
    return tuple(
        Framebuffer(int(match[1]), boot_vga)
        for name in sysfs.names(folder / "graphics")
        if (match := _FRAMEBUFFER.fullmatch(name))
    )


def has_the_console(root: Path, addresses: Iterable[str]) -> bool:
    """Whether the framebuffer console may be on one of these PCI devices."""
    devices = tuple(addresses)
    return has_console(
        [buffer for address in devices for buffer in framebuffers(root, address)],
        _all_framebuffers(root),
        boot_vga=any(_is_boot_vga(device_folder(root, address)) for address in devices),
        bound=bool(_bound_consoles(root)),
    )


def free_console(root: Path) -> None:
    """Takes the console off all framebuffers; raises OSError where the kernel refuses.

    The dummy console takes over, or none (Documentation/driver-api/console.rst).
    """
    for console in _bound_consoles(root):
        sysfs.write(console / "bind", "0\n")


def _bound_consoles(root: Path) -> tuple[Path, ...]:
    """The framebuffer consoles, ``(M) frame buffer device``, that are in use."""
    folder = root / _CONSOLES
    return tuple(
        folder / name
        for name in sysfs.names(folder)
        if "frame buffer" in (sysfs.text(folder / name / "name") or "")
        and sysfs.text(folder / name / "bind") == "1"
    )


def _all_framebuffers(root: Path) -> set[int]:
    """The framebuffers' numbers by sysfs, and by /proc/fb where that has more."""
    named = sysfs.names(root / "sys/class/graphics")
    found = {int(match[1]) for name in named if (match := _FRAMEBUFFER.fullmatch(name))}
    return found | set(parse_framebuffers(sysfs.text(root / "proc/fb") or ""))


def _is_boot_vga(folder: Path) -> bool:
    return sysfs.text(folder / "boot_vga") == "1"
