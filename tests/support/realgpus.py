"""Real GPUs, and what a driver decides about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modulus.core.gpu.flavour import decide
from modulus.core.pci import PciDevice
from modulus.errors import UnsupportedError
from modulus.host.config.load import load_profile

NVIDIA = load_profile(Path("/nonexistent"), "nvidia")
T4, A100, V100, H100, GH200, B200, K80 = 0x1EB8, 0x20B0, 0x1DB4, 0x2330, 0x2342, 0x2901, 0x102D


def gpu(device: int, slot: int = 1, vendor: int = 0x10DE, kind: int = 0x030200) -> PciDevice:
    return PciDevice(f"0000:{slot:02x}:00.0", vendor, device, kind)


def gpus(*devices: int) -> list[PciDevice]:
    return [gpu(device, slot) for slot, device in enumerate(devices, 1)]


def auto(version: str, *devices: int, listed: Any = None) -> str:
    return decide(NVIDIA, "auto", version, gpus(*devices), listed).flavour


def refused(
    version: str,
    *devices: int,
    wanted: str = "auto",
    listed: Any = None,
    require_all: bool = False,
) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as raised:
        decide(NVIDIA, wanted, version, gpus(*devices), listed, require_all=require_all)
    assert raised.value.code == 15 and "\n" not in raised.value.message + raised.value.hint
    return raised.value


def listed(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"chips": list(entries)}
