"""A .run with the vendor's real contents, from the distribution's packages.

Kernel sources, libraries, tools and firmware are real; only the wrapping is ours.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support import packages, wrapping
from tests.support.packages import UnavailableError

_USERSPACE = (
    "libcuda1",
    "libnvidia-ml1",
    "nvidia-smi",
    "firmware-nvidia-gsp",
    "libnvidia-ptxjitcompiler1",
    "libnvidia-cfg1",
    "libcudadebugger1",
    "libnvidia-pkcs11-openssl3",
    "libnvidia-api1",
    "libnvidia-allocator1",
    "libnvcuvid1",
    "libnvidia-encode1",
    "libnvidia-fbc1",
    "nvidia-opencl-icd",
    "nvidia-opencl-common",
    "nvidia-cuda-mps",
    "nvidia-vdpau-driver",
    "libglx-nvidia0",
    "libegl-nvidia0",
    "libgles-nvidia1",
    "libgles-nvidia2",
    "nvidia-egl-common",
    "nvidia-vulkan-common",
    "libnvidia-glcore",
    "libnvidia-eglcore",
    "nvidia-driver-bin",
    "nvidia-suspend-common",
)
_PROPRIETARY, _OPEN = "nvidia-kernel-source", "nvidia-open-kernel-source"
_REQUIRED = ("libcuda1", "libnvidia-ml1", "nvidia-smi", "firmware-nvidia-gsp")
_VERSIONLESS = ("nvidia-modprobe", "nvidia-persistenced")  # their own version, not the driver's

# Real GPUs: both flavours, the proprietary one only (Pascal, Volta), gone, the open one only.
_CHIPS: tuple[tuple[str, str, list[str]], ...] = (
    ("0x1EB8", "Tesla T4", ["kernelopen"]),
    ("0x20B0", "NVIDIA A100-SXM4-40GB", ["kernelopen"]),
    ("0x20F1", "NVIDIA A100-PCIE-40GB", ["kernelopen"]),
    ("0x2236", "NVIDIA A10", ["kernelopen"]),
    ("0x2330", "NVIDIA H100 80GB HBM3", ["kernelopen"]),
    ("0x2342", "NVIDIA GH200 480GB", ["kernelopen", "gspproprietarynotsupported"]),
    ("0x27B8", "NVIDIA L4", ["kernelopen"]),
    ("0x15F8", "Tesla P100-PCIE-16GB", []),
    ("0x1DB4", "Tesla V100-PCIE-16GB", []),
)


def nvidia_run(compression: str = "zstd", codename: str = packages.OWN) -> tuple[Path, str]:
    """A .run of the distribution's current driver and its version; kept in the cache."""
    version = _upstream(packages.candidate(_PROPRIETARY, codename))
    run = _cached_run("proprietary", version, (_PROPRIETARY,), compression, codename=codename)
    return run, version


def open_run(compression: str = "zstd", codename: str = packages.OWN) -> tuple[Path, str]:
    """A .run of the newest version with the open flavour, and that version.

    Distributions may have the rest of the driver in newer versions only: the proprietary
    flavour and programs are in it if they are to be had in this one.
    """
    version = _upstream(packages.candidate(_OPEN, codename))
    sources = [name for name in (_PROPRIETARY, _OPEN) if _is_had(name, version, codename)]
    run = _cached_run("both", version, sources, compression, required=(), codename=codename)
    return run, version


def other_run(codename: str = packages.OWN) -> tuple[Path, str]:
    """A .run of another version than nvidia_run()'s, and that version.

    Where the distribution has none, it is the current one under the next number.
    """
    newest = _upstream(packages.candidate(_PROPRIETARY, codename))
    run, version = open_run(codename=codename)
    whole = (_PROPRIETARY, *_REQUIRED)
    if version != newest and all(_is_had(each, version, codename) for each in whole):
        return run, version
    number = _next(newest)
    run = _cached_run("other", newest, (_PROPRIETARY,), number=number, codename=codename)
    return run, number


def _is_had(name: str, version: str, codename: str) -> bool:
    known = packages.versions(name, codename)
    return any(_upstream(each) == version for each in known)


def _next(version: str) -> str:
    """The next number, of the same length."""
    return f"{version[:-1]}{(int(version[-1]) + 1) % 10}"


def _cached_run(
    kind: str,
    version: str,
    sources: Sequence[str],
    compression: str = "zstd",
    *,
    codename: str,
    number: str = "",
    required: Sequence[str] = _REQUIRED,
) -> Path:
    """The .run of a version, with another ``number`` if there is one; one of a kind is kept."""

    def get(name: str) -> Path:
        return packages.download(f"{name}={_at(name, version, codename)}", codename)

    debs = [get(name) for name in sources]
    for name in _USERSPACE:
        try:
            debs.append(get(name))
        except UnavailableError:
            if name in required:
                raise
    debs += [packages.download(name, codename) for name in _VERSIONLESS]
    number = number or version
    made_by = [Path(file).read_bytes() for file in (__file__, wrapping.__file__)]
    recipe = b"".join(made_by) + "\n".join(deb.name for deb in debs).encode()
    name = f"{codename}-{kind}-{compression}-"
    folder = packages.cache_folder() / "runs" / (name + hashlib.sha256(recipe).hexdigest()[:16])
    target = folder / f"NVIDIA-Linux-x86_64-{number}.run"
    with packages.locked("runs"):
        if not target.exists():
            for old in folder.parent.glob(f"{name}*"):
                shutil.rmtree(old)
            folder.mkdir(parents=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                flavours, files = _lay_out(debs, version, Path(scratch))
                if number != version:
                    for part in (*flavours.values(), files):
                        renumber(part, version, number)
                wrapping.assemble(
                    target, number, flavours=flavours, files=files, compression=compression
                )
    return target


def renumber(folder: Path, old: str, new: str) -> None:
    """Has files, their names and links say another version of the same length."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink():
            target = str(path.readlink()).replace(old, new)
            path.unlink()
            path.symlink_to(target)
        elif path.is_file() and old.encode() in (data := path.read_bytes()):
            path.write_bytes(data.replace(old.encode(), new.encode()))
        path.rename(path.with_name(path.name.replace(old, new)))


def _lay_out(debs: list[Path], version: str, scratch: Path) -> tuple[dict[str, Path], Path]:
    """The packages' files where the vendor's package has them: sources by flavour, the rest."""
    root, files = scratch / "root", scratch / "files"
    for deb in debs:
        packages.unpack(deb, root)
    flavours = {}
    for name, flavour in (("nvidia-kernel", "kernel"), ("nvidia-open-kernel", "kernel-open")):
        packed = root / "usr/src" / f"{name}.tar.xz"
        if packed.exists():
            subprocess.run(["tar", "-xJf", packed, "-C", scratch], check=True)
            flavours[flavour] = scratch / "modules" / name
            shutil.rmtree(flavours[flavour] / "debian", ignore_errors=True)
    files.mkdir()
    for path in sorted(root.rglob("*")):
        place = _place(path.relative_to(root))
        if place is None or (path.is_dir() and not path.is_symlink()):
            continue
        (files / place).parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() and path.name == "nvidia-drm_gbm.so":
            (files / place).symlink_to("../libnvidia-allocator.so.1")  # as the vendor links it
        else:
            shutil.copy2(path, files / place, follow_symlinks=False)
    shutil.copy(min(root.glob("usr/share/doc/*/copyright")), files / "LICENSE")
    (files / "README.txt").write_text(f"NVIDIA driver {version}, put together for tests\n")
    (files / "nvidia-installer").write_text("#!/bin/sh\nexit 1\n")
    (files / "supported-gpus").mkdir()
    chips = [
        {"devid": devid, "name": name, "features": ["dpycbcr420", *features]}
        for devid, name, features in _CHIPS
    ]
    legacy = {"devid": "0x1180", "name": "GeForce GTX 680", "legacybranch": "470.xx"}
    text = json.dumps({"chips": [*chips, {**legacy, "features": []}]}, indent=2)
    (files / "supported-gpus" / "supported-gpus.json").write_text(text)
    return flavours, files


def _place(path: Path) -> str | None:
    """Where the vendor's package has what a distribution's package has at ``path``."""
    text, name = str(path), path.name
    if re.match(r"(usr/)?lib/firmware/nvidia/", text):
        return f"firmware/{name}"
    if re.match(r"usr/lib/systemd/system(-sleep)?/nvidia", text):
        return text.removeprefix("usr/lib/")
    if "/lintian/" in text or "/doc/" in text or "/bug/" in text or "/src/" in text:
        return None
    if ".so" in name or re.match(
        r"usr/(s?bin|lib/nvidia/current|share/(nvidia|vulkan))/", text
    ):
        return None if text.startswith("usr/share/nvidia/rim") else name
    return name if name in ("nvidia.icd", "10_nvidia.json") or "/man1/" in text else None


def _upstream(version: str) -> str:
    """A Debian version without epoch and revision."""
    return version.rpartition(":")[2].rpartition("-")[0]


def _at(name: str, version: str, codename: str) -> str:
    """The package's version whose upstream version is ``version``."""
    for known in packages.versions(name, codename):
        if _upstream(known) == version:
            return known
    raise UnavailableError(f"{name} is not to be had in version {version}")
