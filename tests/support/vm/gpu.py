"""A stand-in for a GPU: its PCI side, in a process at the other end of QEMU's proxy device.

    python tests/support/vm/gpu.py MODEL     with QEMU's end of a socket pair as standard input

There is just enough of it for the vendor's kernel modules to load and to take it for a GPU:
configuration space, memory regions that read as zero, and the two registers that are read at
probe. What needs a working GPU fails: opening it gives EIO, as the VBIOS is missing. Where
``nouveau`` is set there is a VBIOS, memory that keeps what is written, and what else makes the
kernel's nouveau bind to it.

The protocol is that of QEMU's include/hw/remote/mpqemu-link.h. Each message is a header
(command, size), then data; all but two are answered with a number.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from dataclasses import dataclass

_HEADER = struct.Struct("=iiQ")
_CONFIG = struct.Struct("=IIi")
_ACCESS = struct.Struct("=QQI??2x")
_RET, _CFG_WRITE, _CFG_READ, _BAR_WRITE, _BAR_READ, _DEVICE_RESET = 1, 2, 3, 4, 5, 7
_ERROR = (1 << 64) - 1

_VENDOR = 0x10DE
_POWER, _EXPRESS, _VENDOR_SPECIFIC = 0x60, 0x78, 0xB4  # where the capabilities are
# Registers, frame buffer, instance memory; the vendor's driver takes the first three for these,
# nouveau 0, 1 and 3.
_BARS = (16 << 20, 64 << 20, 32 << 20, 32 << 20)
_COMMAND_MASK = 0x0547  # I/O, memory, master, parity, SERR#, interrupts off


@dataclass(frozen=True)
class Model:
    """What tells one GPU from another.

    ``boot_0`` and ``boot_42`` are the registers NV_PMC_BOOT_0 and _42, which name the chip.
    """

    device: int
    boot_0: int
    boot_42: int
    pci_class: int = 0x0302
    vgpu: bool = False
    nouveau: bool = False


MODELS = {
    "a100": Model(0x20B0, 0x170000A1, 0x170A1000),
    "t4": Model(0x1EB8, 0x164000A1, 0x164A1000),
    # A GeForce GTX 680: current drivers leave it to the 470 branch.
    "kepler": Model(0x1180, 0x0E4000A1, 0x0E4A1000, pci_class=0x0300),
    "t4-nouveau": Model(0x1EB8, 0x164000A1, 0x164A1000, nouveau=True),
    # A virtual GPU that a hypervisor of the vendor's hands to its guest.
    "vgpu": Model(0x20B0, 0x170000A1, 0x170A1000, vgpu=True),
}


class Device:
    """The configuration space and the registers of a GPU."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._config = bytearray(256)
        self._mask = bytearray(256)
        self._registers = {0x000: model.boot_0, 0xA00: model.boot_42}
        self._memory: dict[int, int] = {}
        if model.nouveau:
            self._registers |= _NOUVEAU
        self.reset()

    def reset(self) -> None:
        """As after power-on."""
        self._memory.clear()
        self._config[:] = bytes(256)
        self._mask[:] = bytes(256)
        put = self._put
        put(0x00, "HH", _VENDOR, self._model.device)
        put(0x04, "HH", 0, 0x0010)  # it has capabilities
        self._writable(0x04, "H", _COMMAND_MASK)
        put(0x08, "BBH", 0xA1, 0, self._model.pci_class)
        self._writable(0x0C, "B", 0xFF)  # cache line size
        for number, size in enumerate(_BARS):
            put(0x10 + 4 * number, "I", 8 if number else 0)  # all but registers prefetchable
            self._writable(0x10 + 4 * number, "I", -size & 0xFFFFFFFF)
        put(0x2C, "HH", _VENDOR, self._model.device)
        put(0x34, "B", _POWER)
        self._writable(0x3C, "B", 0xFF)  # interrupt line
        put(0x3D, "B", 1)  # interrupt pin INTA#
        put(_POWER, "BBH", 0x01, _EXPRESS, 0x0003)
        self._writable(_POWER + 4, "H", 0x0003)
        after = _VENDOR_SPECIFIC if self._model.vgpu else 0
        # Version 2, an endpoint; link of 16 GT/s and 16 lanes.
        put(_EXPRESS, "BBHIHHIHH", 0x10, after, 0x0002, 0x8FC0, 0x2810, 0, 0x104, 0, 0x1104)
        self._writable(_EXPRESS + 8, "H", 0xFFFF)
        self._writable(_EXPRESS + 16, "H", 0x0FFB)
        if self._model.vgpu:
            # What github.com/NVIDIA/go-nvlib looks for: "VF", then a length.
            put(_VENDOR_SPECIFIC, "BBB2s", 0x09, 0, 0x14, b"VF")

    def _put(self, at: int, layout: str, *values: int | bytes) -> None:
        struct.pack_into(f"<{layout}", self._config, at, *values)

    def _writable(self, at: int, layout: str, mask: int) -> None:
        struct.pack_into(f"<{layout}", self._mask, at, mask)

    def read_config(self, at: int, size: int) -> int:
        return int.from_bytes(self._config[at : at + size], "little")

    def write_config(self, at: int, value: int, size: int) -> None:
        for place, byte in enumerate(value.to_bytes(8, "little")[:size], at):
            mask = self._mask[place]
            self._config[place] = (self._config[place] & ~mask) | (byte & mask)

    def read(self, address: int, size: int) -> int:
        """What is at an address of the machine's memory."""
        at = address - (self.read_config(0x10, 4) & -_BARS[0])
        if self._model.nouveau and 0 <= at - _PROM < len(_VBIOS):
            return int.from_bytes(_VBIOS[at - _PROM :][:size], "little")
        if self._is_memory(at):
            found = bytes(self._memory.get(place, 0) for place in range(at, at + size))
            return int.from_bytes(found, "little")
        return self._registers.get(at, 0)

    def write(self, address: int, value: int, size: int) -> None:
        """Keeps what is written to memory, for nouveau: it waits in there for its own marks."""
        at = address - (self.read_config(0x10, 4) & -_BARS[0])
        if self._model.nouveau and self._is_memory(at):
            self._memory.update(enumerate(value.to_bytes(8, "little")[:size], at))

    @staticmethod
    def _is_memory(at: int) -> bool:
        """Whether it is none of the registers, or in their window to the instance memory."""
        return not 0 <= at < _BARS[0] or at in _PRAMIN


def _vbios(device: int) -> bytes:
    """The least that nouveau takes for a VBIOS: a PCI ROM, three BIT tables, an empty DCB."""
    rom = bytearray(512)

    def put(at: int, layout: str, *values: int | bytes) -> None:
        struct.pack_into(f"<{layout}", rom, at, *values)

    put(0x00, "HB", 0xAA55, 1)  # of one block of 512 bytes
    put(0x18, "H", 0x40)
    put(0x36, "H", 0x120)
    put(0x40, "4sHHHH", b"PCIR", _VENDOR, device, 0, 0x18)
    put(0x4F, "BHHBB", 0x03, 1, 0, 0, 0x80)
    put(0x80, "H3sHBBBB", 0xB8FF, b"BIT", 0, 1, 12, 6, 3)  # three entries of six bytes
    put(0x8C, "sBHH", b"P", 2, 8, 0xC0)
    put(0x92, "sBHH", b"i", 1, 16, 0x100)
    put(0x98, "sBHH", b"I", 1, 16, 0x110)
    put(0xC4, "I", 0xE0)
    put(0xE0, "BB", 0x11, 0x15)  # memory clocks: none
    put(0x103, "B", 0x90)  # version
    put(0x120, "BBBBHI", 0x41, 0x1B, 0, 8, 0, 0x4EDCBDCB)  # displays: none
    rom[-1] = -sum(rom) & 0xFF
    return bytes(rom)


_PROM = 0x300000  # where the registers have the ROM
_PRAMIN = range(0x700000, 0x800000)
_VBIOS = _vbios(0x1EB8)
# Without these nouveau gives up: its names are those of envytools and of nouveau's sources.
_NOUVEAU = {
    0x118128: 1,  # the device initialised itself
    0x118234: 0xFF,
    0x022438: 1,  # memory: one partition of one unit, 256 MiB
    0x022450: 1,
    0x022458: 1,
    0x90020C: 256,
    0x100CE0: 0x104,  # the same, for newer kernels: 16 << (4 + 20) bytes
    0xB83010: 256,  # entries in the buffers for faults
    0xB83030: 256,
}


def serve(model: Model, link: socket.socket) -> None:
    """Answers QEMU until it is gone."""
    device = Device(model)
    while header := _receive(link, _HEADER.size):
        command, _, size = _HEADER.unpack(header)
        answer = _answer(device, command, _receive(link, size))
        if answer is not None:
            link.sendall(_HEADER.pack(_RET, 0, 8) + struct.pack("=Q", answer))


def _answer(device: Device, command: int, data: bytes) -> int | None:
    if command in (_CFG_READ, _CFG_WRITE):
        at, value, size = _CONFIG.unpack(data)
        if at + size > 256:  # no extended configuration space
            return _ERROR >> 8 * (8 - size) if command == _CFG_READ else 0
        if command == _CFG_READ:
            return device.read_config(at, size)
        device.write_config(at, value, size)
    elif command == _BAR_READ:
        address, _, width, *_ = _ACCESS.unpack(data)
        return device.read(address, width)
    elif command == _BAR_WRITE:
        device.write(*_ACCESS.unpack(data)[:3])
    elif command == _DEVICE_RESET:
        device.reset()
    else:
        return None  # the guest's memory and the interrupt, which it makes no use of
    return 0


def _receive(link: socket.socket, size: int) -> bytes:
    """That many bytes, or none if the other end is gone; file descriptors are closed."""
    data = b""
    while len(data) < size:
        piece, fds, _, _ = socket.recv_fds(link, size - len(data), 8)
        for fd in fds:
            os.close(fd)
        if not piece:
            return b""
        data += piece
    return data


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError, KeyboardInterrupt):
        serve(MODELS[sys.argv[1]], socket.socket(fileno=0))
