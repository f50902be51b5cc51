"""What the small driver of tests is: its profile, its package, its modules."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any

from tests.support.elfmaker import kernel_module
from tests.support.library import shared_library

NAME = "gpu"
MODULES = ("gpu", "gpu-uvm")
_PARAMS = {
    "file": "driver/gpu/params",
    "uid": "DeviceFileUID",
    "gid": "DeviceFileGID",
    "mode": "DeviceFileMode",
    "modify": "ModifyDeviceFiles",
}
_CAUSES = (
    (
        "GPU is too old",
        "a GPU is too old for this driver",
        "use an older branch",
        "unsupported",
    ),
    ("firmware is missing", "the GPU's firmware is not found", "look for it", "refused"),
    ("claimed by another", "another driver has a GPU", "unload that driver", "busy"),
    ("no GPU found", "this node has no GPU for it", "look at lspci", "no-gpu"),
    ("does not answer", "a GPU does not answer", "reset it", "gpu-fault"),
)
PROFILE: Mapping[str, Any] = {
    "name": NAME,
    # Nothing listens there: what is not in the cache cannot be had.
    "sources": [{"url": "http://127.0.0.1:9/gpu-{version}.tar", "format": "tar"}],
    "pci": [{"vendor": 0x10DE, "class": 0x0302}],
    "flavours": {"open": {"dir": "kernel"}},
    "build": list(MODULES),
    "make": {"targets": "modules"},
    "load": list(MODULES),
    "preload": ["helper", "not_there"],
    "blacklist": ["rival"],
    "unload": ["gpu_extra", "gpu_uvm", "gpu"],
    "nodes": [
        {
            "path": "gpuctl",
            "major": "gpu",
            "default_major": 195,
            "module": "gpu",
            "minor": 255,
            "params": _PARAMS,
        },
        {
            "path": "gpu{minor}",
            "major": "gpu",
            "minors": {"files": "driver/gpu/gpus/*/information", "field": "Device Minor"},
            "params": _PARAMS,
        },
        {"path": "gpu-uvm", "major": "gpu-uvm", "minor": 0},
    ],
    "load_causes": [
        {"pattern": pattern, "cause": cause, "remedy": remedy, "error": error}
        for pattern, cause, remedy, error in _CAUSES
    ],
    "components": {"compute": [{"types": ["UTILITY_LIB", "UTILITY_BINARY", "FIRMWARE"]}]},
    "installer": {
        "manifest": ".manifest",
        "folders": {
            "UTILITY_LIB": "lib",
            "UTILITY_BINARY": "bin",
            "FIRMWARE": "firmware/gpu/{version}",
        },
    },
    "libraries": [{"name": "libgpu.so.1", "version_of": "gpu"}],
}


def driver_module(name: str, version: str) -> bytes:
    """A module of the driver."""
    info = {
        "license": "GPL",
        "version": version,
        "srcversion": f"S{version}-{name}",
        "depends": "" if name == "gpu" else "gpu",
    }
    return kernel_module(modinfo=info)


def package(version: str) -> bytes:
    """What the vendor publishes: a manifest, and the files it lists."""
    manifest = [
        "A driver",
        version,
        " ",
        " ".join(MODULES),
        *[" "] * 4,
        f"libgpu.so.{version} 0755 UTILITY_LIB NATIVE MODULE:x",
        "gpu-tool 0755 UTILITY_BINARY MODULE:x",
        "firmware/gpu.bin 0644 FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:x",
    ]
    contents = {
        ".manifest": "\n".join(manifest).encode() + b"\n",
        f"libgpu.so.{version}": shared_library("libgpu.so.1", 100),
        "gpu-tool": f"#!/bin/sh\necho {version}\n".encode(),
        "firmware/gpu.bin": version.encode() * 50,
    }
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return output.getvalue()
