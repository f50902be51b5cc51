"""A node with a small driver of its own: in a store, and tools that load it into a fake /sys.

All of Modulus is real here. Only the programs it runs are not: ``modprobe`` makes what the
kernel would show of a driver (``sys/module``, ``proc/devices``, the GPUs it is bound to) and
``rmmod`` takes it away again, ``ldconfig`` is the real one. All note that they ran.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import struct
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from modulus.cli import run as run_modulus
from modulus.core.instance import Instance
from modulus.host.files import atomic
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.record import read_record
from modulus.host.files.tree_digest import tree_digest
from modulus.host.report.reporter import PlainReporter
from modulus.host.store.store import Entry
from modulus.pipeline.build.plan import plan
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.elfmaker import kernel_module
from tests.support.fakesys import PCI, FakeSys
from tests.support.headertrees import CONFIG, write
from tests.support.library import shared_library

NAME = "gpu"
RELEASE = "6.1.0-9-amd64"
VERSION = "#1 SMP Debian 6.1.67-1"
UTSRELEASE = "build/include/generated/utsrelease.h"
GPU = "0000:00:05.0"
MODULES = ("gpu", "gpu-uvm")
NODES = ("gpu-uvm", "gpu0", "gpuctl")
"""The device nodes of one GPU, by name."""

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

_COMMON = """#!/bin/sh
tools=@TOOLS@ root=@ROOT@
echo "${0##*/} $*" >>$tools/log
devices() {
    echo "Character devices:"
    echo "  1 mem"
    [ ! -d $root/sys/module/gpu ] || echo "195 gpu"
    [ ! -d $root/sys/module/gpu_uvm ] || echo "$(cat $tools/uvm-major) gpu-uvm"
    echo
    echo "Block devices:"
}
"""
_MODPROBE = """
# -d DIR -C FILE --ignore-install NAME
for name; do :; done
[ ! -e $tools/$name.kmsg ] || cat $tools/$name.kmsg >>$root/dev/kmsg
[ ! -e $tools/$name.fail ] || { cat $tools/$name.fail >&2; exit 1; }
file=$(find $2/lib/modules -name $name.ko)
info() { head -c 65536 $file | tr '\\0' '\\n' | sed -n "s/^$1=//p"; }
fails=$tools/$name-$(info version).fail
[ ! -e $fails ] || { cat $fails >&2; exit 1; }
kernel=$(echo $name | tr - _)
module=$root/sys/module/$kernel
mkdir -p $module/holders
info version >$module/version
info srcversion >$module/srcversion
echo live >$module/initstate
echo 0 >$module/refcnt
case $kernel in
gpu)
    driver=$root/sys/bus/pci/drivers/gpu minor=0
    mkdir -p $driver $root/proc/driver/gpu
    ln -sfn ../../../../module/gpu $driver/module
    cp $tools/params $root/proc/driver/gpu/params
    for device in $root/sys/bus/pci/devices/*; do
        [ "$(cat $device/class)" = 0x030200 ] && [ ! -e $device/driver ] || continue
        ln -s ../../../bus/pci/drivers/gpu $device/driver
        mkdir -p $root/proc/driver/gpu/gpus/${device##*/}
        echo "Device Minor: $minor" >$root/proc/driver/gpu/gpus/${device##*/}/information
        minor=$((minor + 1))
    done ;;
gpu_uvm)
    ln -s ../../gpu_uvm $root/sys/module/gpu/holders/gpu_uvm
    echo 1 >$root/sys/module/gpu/refcnt ;;
esac
devices >$root/proc/devices
"""
_RMMOD = """
[ ! -e $tools/$1.fail ] || { cat $tools/$1.fail >&2; exit 1; }
if [ -n "$(ls $root/sys/module/$1/holders)" ]; then
    echo "rmmod: ERROR: Module $1 is in use" >&2
    exit 1
fi
rm -r $root/sys/module/$1
case $1 in
gpu)
    rm -r $root/proc/driver/gpu
    for device in $root/sys/bus/pci/devices/*; do
        case $(readlink $device/driver) in */gpu) rm $device/driver ;; esac
    done ;;
gpu_uvm)
    rm $root/sys/module/gpu/holders/gpu_uvm
    echo 0 >$root/sys/module/gpu/refcnt ;;
esac
devices >$root/proc/devices
"""
_TOOLS = {
    "modprobe": _MODPROBE,
    "rmmod": _RMMOD,
    "depmod": "",
    "ldconfig": f'exec {shutil.which("ldconfig", path="/usr/sbin:/sbin")} "$@"\n',
}


class FakeNode:
    """The node below ``folder``: RELEASE runs on it, and it has one GPU."""

    def __init__(self, folder: Path) -> None:
        self.root, self.tools = folder / "root", folder / "tools"
        self.sys = FakeSys(self.root)
        self.driver = DriverPaths(self.root, NAME)
        self.cache = self.root / "var/cache/modulus"
        self.link = self.root / "opt/drivers/gpu"
        self.home = self.root / "opt/drivers/.gpu"
        self._packages: dict[str, str] = {}
        self._write_root()
        self._write_tools()
        self._provision()
        self.sys.device(GPU, numa_node="0")

    @property
    def path(self) -> str:
        """What PATH is to be."""
        return f"{self.tools}:/usr/sbin:/usr/bin:/sbin:/bin"

    def run(self, *words: str) -> int:
        """``modulus WORDS --root ROOT`` in this process; its exit code."""
        return run_modulus([*words, "--root", str(self.root)])

    def configure(self, **settings: Any) -> None:
        """Adds to the settings, which take nothing from a network."""
        file = self.root / "etc/modulus/modulus.yaml"
        before = yaml.safe_load(file.read_text()) if file.exists() else {"offline": True}
        write(file, yaml.safe_dump({**before, **settings}))

    def define(self, **keys: Any) -> None:
        """Replaces keys of the profile."""
        file = self.root / f"etc/modulus/profiles/{NAME}.yaml"
        before = yaml.safe_load(file.read_text()) if file.exists() else dict(PROFILE)
        write(file, yaml.safe_dump({**before, **keys}))

    def stock(
        self, version: str = "1.0", *, padding: int = 0, made: str = "", wrong: bool = False
    ) -> Entry:
        """Puts package and build of a version into the store, as a build would.

        ``padding`` bytes make its first module as large as a real one; ``wrong`` makes it one
        that no sound build makes. ``made`` is how its objects were.
        """
        package = _package(version)
        self._packages[version] = hashlib.sha256(package).hexdigest()
        (self.cache / "downloads").mkdir(exist_ok=True)
        (self.cache / "downloads" / self._packages[version]).write_bytes(package)
        self.define(sha256=self._packages)
        site = Site(self.root, None, (), 0, PlainReporter(io.StringIO()))
        wanted = plan(Node(site, Instance(NAME, version)), RELEASE)
        assert wanted.key
        modules = {f"{name}.ko": driver_module(name, version) for name in MODULES}
        modules[f"{MODULES[0]}.ko"] += bytes(padding) + (b"wrong" if wrong else b"")
        parent = self.cache / "builds" / RELEASE
        with atomic.scratch(parent, "build") as scratch:
            for folder in ("entry", "out"):
                (scratch / folder).mkdir()
            for file, content in modules.items():
                (scratch / "out" / file).write_bytes(content)
            return site.store.commit(
                wanted.key,
                RELEASE,
                scratch / "entry",
                scratch / "out",
                {
                    "instance": f"{NAME}-{version}",
                    "flavour": "open",
                    "inputs": dict(wanted.inputs),
                    "made": made,
                    "files": [
                        {
                            "path": file,
                            "sha256": hashlib.sha256(content).hexdigest(),
                            "size": len(content),
                        }
                        for file, content in modules.items()
                    ],
                    "finished": "2026-01-01T00:00:00Z",
                },
            )

    def forget_builds(self) -> None:
        """Deletes the cache: store, headers, toolchain, packages."""
        shutil.rmtree(self.cache)

    def reboot(self, version: str = VERSION, build_id: bytes = b"the kernel") -> None:
        """Starts the kernel again: nothing is loaded, /run and /dev are empty."""
        for driver in (self.root / PCI).glob("*/driver"):
            driver.unlink()
        for folder in ("run", "dev", "sys/module", "proc/driver", "sys/bus/pci/drivers"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        (self.root / "run").mkdir()
        write(self.root / "dev/kmsg", "")
        write(self.root / "proc/devices", "Character devices:\n  1 mem\n\nBlock devices:\n")
        write(self.root / "proc/sys/kernel/osrelease", f"{RELEASE}\n")
        write(self.root / "proc/sys/kernel/version", f"{version}\n")
        write(self.root / "sys/module/firmware_class/parameters/path", "")
        (self.root / "sys/kernel").mkdir(exist_ok=True)
        note = struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id
        (self.root / "sys/kernel/notes").write_bytes(note)

    def refuses(
        self, module: str, version: str, said: str = "Key was rejected by service"
    ) -> None:
        """Has this version of ``module`` not load."""
        (self.tools / f"{module}-{version}.fail").write_text(f"{said}\n")

    def says(self, module: str, kernel: str = "", *, fails: str | None = None) -> None:
        """What loading ``module`` makes the kernel log, and modprobe say where it fails."""
        (self.tools / f"{module}.kmsg").write_text(f"4,1,1,-;{kernel}\n" if kernel else "")
        if fails is not None:
            (self.tools / f"{module}.fail").write_text(f"{fails}\n")

    def ran(self) -> list[str]:
        """The programs that ran since the last call, modules with them."""
        log = self.tools / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        named = ("modprobe", "rmmod")
        return [
            f"{words[0]} {words[-1]}" if words[0] in named else words[0]
            for words in map(str.split, lines)
        ]

    def state(self, instance: str = "gpu-1.0") -> Any:
        """What the file in /run says of an instance; None without one."""
        return read_record(self.root / f"run/modulus/{instance}.json", lambda value: value)

    def loaded(self) -> dict[str, str]:
        """The driver's modules in the kernel, with their versions."""
        return {
            path.name: (path / "version").read_text().strip()
            for path in sorted((self.root / "sys/module").glob("gpu*"))
        }

    def nodes(self) -> dict[str, tuple[int, int]]:
        """The device nodes by name."""
        found = {path.name: path.lstat() for path in sorted((self.root / "dev").glob("gpu*"))}
        return {
            name: (os.major(node.st_rdev), os.minor(node.st_rdev))
            for name, node in found.items()
        }

    def module(self, name: str) -> Path:
        """The file of a module in the active generation."""
        return self.link / f"lib/modules/{RELEASE}/{name}.ko"

    def firmware_path(self) -> str:
        """Where the kernel looks for firmware first."""
        path = self.root / "sys/module/firmware_class/parameters/path"
        return path.read_text().strip("\0")

    def everything(self) -> dict[str, tuple[int, ...]]:
        """Every file, with what changes when it is written or replaced."""
        found: dict[str, tuple[int, ...]] = {}
        for folder, folders, names in os.walk(self.root):
            for name in (*folders, *names):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                is_folder = name in folders and not os.path.islink(path)
                found[os.path.relpath(path, self.root)] = (
                    (status.st_ino,) if is_folder else (status.st_ino, status.st_mtime_ns)
                )
        return found

    def _write_root(self) -> None:
        write(self.root / "etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
        write(self.root / "etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
        kernel = self.root / "lib/modules" / RELEASE
        write(kernel / "modules.dep", "kernel/helper.ko:\n")
        write(kernel / "modules.builtin", "")
        helper = {"license": "GPL", "version": "", "srcversion": "H"}
        (kernel / "kernel").mkdir()
        (kernel / "kernel/helper.ko").write_bytes(kernel_module(modinfo=helper))
        self.cache.mkdir(parents=True)
        self.reboot()
        self.configure()
        self.define()

    def _write_tools(self) -> None:
        places = {"@TOOLS@": str(self.tools), "@ROOT@": str(self.root)}
        for name, script in _TOOLS.items():
            # In a child: a kernel ends what it has begun, although who asked for it is killed.
            text = f"{_COMMON}(:\n{script}\n) &\nwait $!\n"
            for mark, place in places.items():
                text = text.replace(mark, place)
            write(self.tools / name, text, 0o755)
        write(self.tools / "uvm-major", "243\n")
        self.params(modify=1)

    def params(self, **values: int) -> None:
        """What the driver will say of its nodes."""
        modify = values.get("modify", 1)
        write(
            self.tools / "params",
            f"DeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n"
            f"ModifyDeviceFiles: {modify}\n",
        )

    def _provision(self) -> None:
        """Records headers and a toolchain, as provisioning would leave them."""
        place = "debian/bookworm/amd64"
        store_entry(
            self.cache / "headers",
            {
                "tree/build/.config": CONFIG,
                "tree/build/Module.symvers": "",
                f"tree/{UTSRELEASE}": f'#define UTS_RELEASE "{RELEASE}"\n',
            },
            found_by=[f"packages/{place}/{RELEASE}/none"],
            release=RELEASE,
            origin="packages",
            symvers_sha256="c" * 64,
        )
        store_entry(
            self.cache / "toolchains",
            {"root/usr/bin/make": ""},
            found_by=[f"{place}/gcc-12"],
            cc="gcc-12",
            packages={},
        )


def store_entry(kind: Path, content: Mapping[str, str], **record: Any) -> Path:
    """An entry as provisioning leaves it, with files by their paths; its folder."""
    new = kind / ".entry"
    for name, text in content.items():
        write(new / name, text)
    (tree,) = (path for path in new.iterdir() if path.is_dir())
    identity = tree_digest(tree)
    write(new / "record.json", json.dumps({"schema": 1, "id": identity, **record}))
    return new.rename(kind / identity)


def fake_node(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """For fixtures: a node whose store has gpu-1.0, with its tools in PATH; nothing of what
    ``run`` does to a whole process outlives it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    mask = os.umask(0o022)
    node = FakeNode(folder)
    node.stock()
    patch.setenv("PATH", node.path)
    yield node
    os.umask(mask)
    for number, handler in before.items():
        signal.signal(number, handler)


def driver_module(name: str, version: str) -> bytes:
    """A module of the driver."""
    info = {
        "license": "GPL",
        "version": version,
        "srcversion": f"S{version}-{name}",
        "depends": "" if name == "gpu" else "gpu",
    }
    return kernel_module(modinfo=info)


def _package(version: str) -> bytes:
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
