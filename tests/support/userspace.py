"""A package's manifest, for tests of its userspace."""

from __future__ import annotations

from modulus.core.package.userspace import Selection
from modulus.core.package.vendor_manifest import VendorManifest, parse_manifest
from modulus.core.profile.profile import ComponentRule as Rule

VERSION = "535.1"
HEADER = f"Driver\n{VERSION}\n0\ndriver\n5\n6\n7\n8\n"
FOLDERS = {
    "CUDA_LIB": "lib",
    "CUDA_SYMLINK": "lib",
    "UTILITY_LIB": "lib",
    "UTILITY_BINARY": "bin",
    "UTILITY_BIN_SYMLINK": "bin",
    "VDPAU_LIB": "lib/vdpau",
    "GBM_BACKEND_LIB_SYMLINK": "lib/gbm",
    "FIRMWARE": "firmware/vendor/{version}/{path}",
    "VULKAN_ICD_JSON": "share/vulkan/{path}",
    "INTERNAL_UTILITY_DATA": "share/vendor",
    "SANDBOXUTILS_FILELIST_JSON": "share/vendor",
}
MANIFEST = """\
libcuda.so.535.1 0755 CUDA_LIB NATIVE / MODULE:compute
libcuda.so.1 0000 CUDA_SYMLINK NATIVE / libcuda.so.535.1 MODULE:compute
libcuda.so 0000 CUDA_SYMLINK NATIVE / libcuda.so.1 MODULE:compute
32/libcuda.so.535.1 0755 CUDA_LIB COMPAT32 / MODULE:compute
32/libcuda.so.1 0000 CUDA_SYMLINK COMPAT32 / libcuda.so.535.1 MODULE:compute
libml.so.535.1 0755 UTILITY_LIB NATIVE MODULE:utility
tool 0644 UTILITY_BINARY MODULE:utility
helper 4755 UTILITY_BINARY MODULE:utility
old-tool 0000 UTILITY_BIN_SYMLINK tool MODULE:utility
firmware/gsp_a.bin 0444 FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:installer
firmware/sub/gsp_b.bin 0644 FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:installer
icd.json 0644 VULKAN_ICD_JSON icd.d/ MODULE:graphics
layers.json 0644 VULKAN_ICD_JSON implicit_layer.d/ MODULE:graphics
libvdpau_x.so.535.1 0755 VDPAU_LIB NATIVE vdpau/ MODULE:video
x-drm_gbm.so 0000 GBM_BACKEND_LIB_SYMLINK NATIVE libml.so.535.1 MODULE:graphics
kernel/driver.c 0644 KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1 MODULE:driver
"""
ALL = Selection(("all",), (Rule(tuple(FOLDERS)),), FOLDERS)


def manifest(entries: str = MANIFEST) -> VendorManifest:
    return parse_manifest(HEADER + entries + "\n")
