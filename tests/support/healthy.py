"""A driver in which nothing is wrong, as facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from modulus.core.gpu.census import Census, Gpu
from modulus.core.health.checks.libraries import InstalledLibrary
from modulus.core.health.verify import Observed
from modulus.core.kernel.mountinfo import Mount
from modulus.core.pci import PciDevice
from modulus.core.profile.libraries import Answer, Library, Reply, Status
from modulus.host.modules.load import Loaded, WantedModule

ADDRESSES = ("0000:00:05.0", "0000:00:06.0")
FOLDER = "/opt/drivers/driver/lib"
ML = Library(
    "libd.so.1",
    version_of="driver-core",
    init="dInit",
    device="dDevice",
    statuses=(
        Status(9, "the driver is not loaded", "load it"),
        Status(15, "it is gone", "reset it"),
        Status(100, "it has no instances", "make some", "warning"),
    ),
)
FINE = Answer(
    "libd.so.1", (Reply("dInit", 0), *(Reply("dDevice", 0, "", a) for a in ADDRESSES))
)


def loaded(name: str, version: str | None = "1.0", src: str | None = "A") -> Loaded:
    return Loaded(name, version, src, 0, (), "live")


def wanted(name: str, version: str | None = "1.0", src: str | None = "A") -> WantedModule:
    return WantedModule(name, Path("x.ko"), version, src)


def gpu(address: str, numa_node: int | None = 0) -> Gpu:
    return Gpu(PciDevice(address, 1, 2, 3), driver="driver", numa_node=numa_node)


RIGHT = Observed(
    instance="driver-1.0",
    wanted={"driver_core": wanted("driver-core")},
    loaded={"driver_core": loaded("driver_core")},
    folder=FOLDER,
    census=Census(True, tuple(map(gpu, ADDRESSES))),
    mount=Mount("/opt", frozenset({"rw", "nodev"}), "ext4", "/dev/vda1"),
    libraries=(InstalledLibrary(ML, "libd.so.1.0", f"{FOLDER}/libd.so.1"),),
    asked=((ML, FINE),),
    devices=ADDRESSES,
)


def broken(**facts: Any) -> Observed:
    return replace(RIGHT, **facts)


def installed(**facts: Any) -> dict[str, Any]:
    return {"libraries": (replace(RIGHT.libraries[0], **facts),)}


def answered(*statuses: int, init: int = 0, problem: str | None = None) -> dict[str, Any]:
    replies = [Reply("dInit", init)]
    replies += [Reply("dDevice", s, "", a) for s, a in zip(statuses, ADDRESSES, strict=False)]
    return {"asked": ((ML, Answer(ML.name, tuple(replies), problem)),)}
