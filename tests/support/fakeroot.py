"""A fake root with an ``/etc``, and a small driver to install in it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

from modulus.core.generation.generation import Identity
from modulus.core.instance import Instance
from modulus.core.kernel.identity import KernelId
from modulus.core.store.manifest import StoredFile
from modulus.core.tree import Link, Tree
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.tree import record_file
from modulus.host.generation.install import (
    Generation,
    activate,
    install_generation,
    write_selected,
)
from modulus.host.generation.linker import configure_linker, update_linker
from modulus.host.generation.userspace import Userspace
from modulus.host.report.reporter import PlainReporter
from modulus.host.store.entry import Stored
from modulus.host.store.objects import Objects
from tests.support.library import shared_library

NAME = "driver"
RELEASE = "6.1.0-9-amd64"


@dataclass(frozen=True)
class FakeRoot:
    """The root, a folder ``work`` beside it, and what Modulus said."""

    root: Path
    work: Path
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def reporter(self) -> PlainReporter:
        return PlainReporter(self.log)

    @property
    def driver(self) -> DriverPaths:
        return DriverPaths(self.root, NAME)

    @property
    def link(self) -> Path:
        return self.root / "opt/drivers/driver"

    @property
    def home(self) -> Path:
        return self.root / "opt/drivers/.driver"

    def userspace(self, version: str = "1.0", size: int = 100) -> Userspace:
        folder = self.work / f"userspace-{version}-{size}"
        library = f"libd.so.{version}"
        contents = {
            "bin/tool": (f"#!/bin/sh\necho {version}\n".encode(), 0o755),
            f"lib/{library}": (shared_library("libd.so.1", size), 0o755),
            f"firmware/vendor/{version}/gsp.bin": (bytes(size), 0o644),
            "share/vulkan/icd.d/d.json": (b"{}", 0o644),
        }
        for path, (content, mode) in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
            (folder / path).chmod(mode)
        files = tuple(record_file(folder / path, path) for path in sorted(contents))
        return Userspace("a" * 64, folder, Tree(files, (Link("lib/libd.so.1", library),)))

    def install(
        self, version: str = "1.0", key: str = "c" * 64, size: int = 100, bare: bool = False
    ) -> Generation:
        module = self.work / "driver.ko"
        module.write_bytes(f"module {version} {key}".encode())
        module.chmod(0o600)
        return install_generation(
            self.root,
            Identity(Instance(NAME, version), "open", KernelId(RELEASE), key),
            {"driver.ko": plain(module)},
            None if bare else self.userspace(version, size),
            self.reporter,
        )

    def up(self, version: str = "1.0", size: int = 100) -> Generation:
        """All but the linker's cache, in the order of the pipeline."""
        generation = self.install(version, size=size)
        configure_linker(self.driver)
        activate(self.driver, generation)
        write_selected(self.driver, Instance(NAME, version))
        return generation

    def update_linker(self, generation: Generation) -> bool:
        return update_linker(self.driver, generation, self.reporter)

    def leftovers(self) -> list[Path]:
        """Scratch folders and temporary files, of which a finished run leaves none."""
        return [path for path in self.root.rglob(".*") if path != self.home]


def plain(path: Path) -> Stored:
    """The module at ``path``, as it is in the store of an older Modulus."""
    record = record_file(path, path.name)
    file = StoredFile(record.path, record.sha256, record.size)
    return Stored(file, path.parent, Objects(path.parent))


def make_root(folder: Path) -> FakeRoot:
    """A root whose dynamic linker reads drop-ins, as a distribution's does."""
    root, work = folder / "root", folder / "work"
    (root / "etc").mkdir(parents=True)
    (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    work.mkdir()
    return FakeRoot(root, work)
