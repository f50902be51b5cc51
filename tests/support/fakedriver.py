"""A node with a small driver of its own: in a store, and tools that load it into a fake /sys.

All of Modulus is real here; the programs it runs are those of faketools.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import struct
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
from modulus.host.store.store import Entry
from modulus.pipeline.build.plan import gather
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.elfmaker import kernel_module
from tests.support.fakepackage import MODULES, NAME, PROFILE, driver_module, package
from tests.support.fakesys import PCI, FakeSys
from tests.support.faketools import write_params, write_tools
from tests.support.headertrees import CONFIG, write

RELEASE = "6.1.0-9-amd64"
VERSION = "#1 SMP Debian 6.1.67-1"
UTSRELEASE = "build/include/generated/utsrelease.h"
GPU = "0000:00:05.0"
NODES = ("gpu-uvm", "gpu0", "gpuctl")
"""The device nodes of one GPU, by name."""


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
        write_tools(self.tools, self.root)
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
        content = package(version)
        self._packages[version] = hashlib.sha256(content).hexdigest()
        (self.cache / "downloads").mkdir(exist_ok=True)
        (self.cache / "downloads" / self._packages[version]).write_bytes(content)
        self.define(sha256=self._packages)
        site = Site(self.root, None, (), 0)
        facts = gather(Node(site, Instance(NAME, version)), RELEASE)
        assert facts.key
        modules = {f"{name}.ko": driver_module(name, version) for name in MODULES}
        modules[f"{MODULES[0]}.ko"] += bytes(padding) + (b"wrong" if wrong else b"")
        parent = self.cache / "builds" / RELEASE
        with atomic.scratch(parent, "build") as scratch:
            for folder in ("entry", "out"):
                (scratch / folder).mkdir()
            for file, content in modules.items():
                (scratch / "out" / file).write_bytes(content)
            return site.store.commit(
                facts.key,
                RELEASE,
                scratch / "entry",
                scratch / "out",
                {
                    "instance": f"{NAME}-{version}",
                    "flavour": "open",
                    "inputs": dict(facts.inputs),
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

    def params(self, modify: int = 1) -> None:
        """What the driver will say of its nodes."""
        write_params(self.tools, modify)

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
