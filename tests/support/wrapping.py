"""Wraps files as the vendor does: shell header, order, manifest.

Whoever executes what comes of it leaves a file behind.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

COMPRESSORS = {
    "zstd": ("zstd", "-q", "-c", "-3", "-T0"),
    "xz": ("xz", "-c", "-1", "-T0", "-C", "none"),  # the vendor's own choice of check
    "gzip": ("gzip", "-c", "-n", "-1"),
    "bzip2": ("bzip2", "-c", "-1"),
    "none": ("cat",),
}

# The digest and the checksum, on lines 2 and 3, cover everything from line 4 on.
_HEADER = """\
skip={skip}
skip_decompress={skip}
size_decompress=0
label="NVIDIA Accelerated Graphics Driver for Linux-x86_64 {version}"
version_string={version}
pkg_version=0
script=./nvidia-installer
targetdir={name}
scriptargs=""
keep=n
add_this_kernel=n
apply_patch=n
TMPROOT=${{TMPDIR:=/tmp}}
TARGET_OS="Linux"
TARGET_ARCH="x86_64"

#
# NVIDIA Accelerated Graphics Driver for Linux-x86_64 {version}
# This one is for tests and must not be executed: it tells on whoever does.
#
echo "$0" "$@" >> "$0.executed"
exit 1
tail -n +${{skip}} $0

"""

# By name: type of the file, what follows it, type of a symlink, the manifest's module.
_LIBRARIES: tuple[tuple[str, str, str, str, str], ...] = (
    (r"libnvidia-ml\.", "CUDA_LIB", "NATIVE /", "CUDA_SYMLINK", "nvml"),
    (r"libnvidia-(ptxjitcompiler|nvvm)\.", "CUDA_LIB", "NATIVE /", "CUDA_SYMLINK", "gpgpucomp"),
    (r"libcuda(debugger)?\.", "CUDA_LIB", "NATIVE /", "CUDA_SYMLINK", "gpgpu"),
    (r"libnvidia-opencl\.", "OPENCL_LIB", "NATIVE /", "OPENCL_LIB_SYMLINK", "gpgpu"),
    (r"libnvcuvid\.", "NVCUVID_LIB", "NATIVE", "NVCUVID_LIB_SYMLINK", "nvcuvid"),
    (r"libnvidia-encode\.", "ENCODEAPI_LIB", "NATIVE", "ENCODEAPI_LIB_SYMLINK", "encodeapi"),
    (r"libvdpau_nvidia\.", "VDPAU_LIB", "NATIVE vdpau/", "VDPAU_SYMLINK", "vdpau"),
    (r"libnvidia-tls\.", "TLS_LIB", "NATIVE /", "OPENGL_SYMLINK", "opengl"),
    (r"nvidia-drm_gbm\.", "GBM_BACKEND_LIB", "NATIVE", "GBM_BACKEND_LIB_SYMLINK", "opengl"),
    (
        r"libnvidia-(cfg|fbc|api|pkcs11-openssl3)\.",
        "UTILITY_LIB",
        "NATIVE",
        "UTILITY_LIB_SYMLINK",
        "installer",
    ),
    (r"lib.*\.so\b", "OPENGL_LIB", "NATIVE", "OPENGL_SYMLINK", "opengl"),
)
_FILES: tuple[tuple[str, str, str], ...] = (
    (r"nvidia-modprobe$", "04755 NVIDIA_MODPROBE /usr/bin/", "installer"),
    (r"nvidia-modprobe\.1\.gz$", "0444 NVIDIA_MODPROBE_MANPAGE man1/", "installer"),
    (r"nvidia-installer$", "0755 INSTALLER_BINARY", "installer"),
    (r"firmware/", "0444 FIRMWARE INHERIT_PATH_DEPTH:1", "gsp_firmware"),
    (r"systemd/system/", "0644 SYSTEMD_UNIT", "powermanagement"),
    (r"systemd/system-sleep/", "0755 SYSTEMD_SLEEP_SCRIPT", "powermanagement"),
    (r"nvidia\.icd$", "0444 CUDA_ICD", "gpgpu"),
    (r"10_nvidia\.json$", "0644 GLVND_EGL_ICD_JSON", "opengl"),
    (r"nvidia_icd\.json$", "0644 VULKAN_ICD_JSON icd.d/", "opengl"),
    (r"nvidia_layers\.json$", "0644 VULKAN_ICD_JSON implicit_layer.d/", "opengl"),
    (r"nvidia-application-profiles-", "0444 APPLICATION_PROFILE /", "opengl"),
    (r".*\.1\.gz$", "0444 MANPAGE man1/", "installer"),
    (r"nvidia-smi$", "0755 UTILITY_BINARY", "nvml"),
    (r"supported-gpus/", "0444 DOCUMENTATION NVIDIA_GLX-1.0/supported-gpus/", "installer"),
    (r"[A-Z][A-Za-z_]+(\.txt)?$", "0444 DOCUMENTATION NVIDIA_GLX-1.0/", "installer"),
    (r".*", "0755 UTILITY_BINARY", "installer"),
)
_KERNEL_MODULES = {
    "nvidia": "resman",
    "nvidia-uvm": "uvm",
    "nvidia-modeset": "nvkms",
    "nvidia-drm": "nvidia_drm",
    "nvidia-peermem": "nvidia_peermem",
}


def assemble(
    target: Path,
    version: str,
    *,
    flavours: Mapping[str, Path],
    files: Path,
    compression: str = "zstd",
) -> Path:
    """Writes the .run ``target``.

    ``flavours`` maps ``kernel`` or ``kernel-open`` to a folder of sources. ``files`` is laid
    out as in the package; its symlinks become lines of the manifest, not members.
    """
    roots = {**flavours, "": files}
    members = dict(flavours) | {
        f"{top}/{path.relative_to(root)}".lstrip("/"): path
        for top, root in roots.items()
        for path in sorted(root.rglob("*"))
    }
    manifest = _manifest(version, members, [*flavours])
    name = f"NVIDIA-Linux-x86_64-{version}"
    skip = _HEADER.count("\n") + 4
    header = _HEADER.format(skip=skip, version=version, name=name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        summed = Path(scratch, "summed")
        with open(summed, "wb") as file:
            file.write(header.encode())
            file.flush()
            _pack(file, members, manifest, compression)
        with open(summed, "rb") as file:
            md5 = _md5(file)
        crc = subprocess.check_output(["cksum", summed], text=True).split()[0]
        final = Path(scratch, "run")
        with open(final, "wb") as file, open(summed, "rb") as rest:
            file.write(f"#! /bin/sh\nCRCsum={crc}\nMD5={md5}\n".encode())
            shutil.copyfileobj(rest, file, 1 << 20)
        final.chmod(0o755)
        final.rename(target)
    return target


def _manifest(version: str, members: Mapping[str, Path], flavours: list[str]) -> str:
    """The vendor's ``.manifest``: nine lines of header, then a line per file and symlink."""
    first = flavours[0]
    built = [name for name in _KERNEL_MODULES if f"{first}/{name}" in members]
    lines = [
        "NVIDIA Accelerated Graphics Driver for Linux-x86_64",
        version,
        " ",
        " ".join(built) + " ",
        " ",
        " ",
        f"./{first}/",
        f"./{first}/precompiled/",
    ]
    for name, path in members.items():
        if path.is_symlink() or path.is_file():
            lines.append(_line(name, path, flavours))
    if "systemd/system/nvidia-suspend.service" in members:
        lines.append(
            "nvidia-suspend.service 0000 SYSTEMD_UNIT_SYMLINK systemd-suspend.service.requires/"
            " ../nvidia-suspend.service MODULE:powermanagement"
        )
    return "\n".join(lines) + "\n"


def _line(name: str, path: Path, flavours: list[str]) -> str:
    top, _, inner = name.partition("/")
    if top in flavours:
        kind = "DKMS_CONF" if inner == "dkms.conf" else "KERNEL_MODULE_SRC"
        module = _KERNEL_MODULES.get(inner.split("/")[0], "resman")
        return f"{name} 0644 {kind} INHERIT_PATH_DEPTH:1 MODULE:{module}"
    for pattern, kind, fields, link_kind, module in _LIBRARIES:
        if re.match(pattern, name):
            if path.is_symlink():
                return f"{name} 0000 {link_kind} {fields} {path.readlink()} MODULE:{module}"
            return f"{name} 0755 {kind} {fields} MODULE:{module}"
    fields, module = next(row[1:] for row in _FILES if re.match(row[0], name))
    return f"{name} {fields} MODULE:{module}"


def _pack(
    output: IO[bytes], members: Mapping[str, Path], manifest: str, compression: str
) -> None:
    """The payload, through the compressor; the order is as accidental as a folder's."""
    with subprocess.Popen(
        COMPRESSORS[compression], stdin=subprocess.PIPE, stdout=output
    ) as packer:
        assert packer.stdin is not None
        with tarfile.open(fileobj=packer.stdin, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for name in _order([*members, ".manifest"]):
                path = members.get(name)
                if path is not None and not path.is_symlink():
                    tar.add(path, f"./{name}", recursive=False, filter=_owned_by_root)
                elif path is None:
                    _add_text(tar, f"./{name}", manifest)
    if packer.returncode:
        raise RuntimeError(f"{compression} failed with {packer.returncode}")


def _order(names: list[str]) -> Iterator[str]:
    tops = sorted(
        {name.split("/")[0] for name in names},
        key=lambda top: hashlib.md5(top.encode()).digest(),
    )
    for top in tops:
        yield from (name for name in names if name.split("/")[0] == top)


def _owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = stat.S_IMODE(info.mode)
    return info


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def _md5(file: IO[bytes]) -> str:
    digest = hashlib.md5()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()
