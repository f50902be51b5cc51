"""A node with stand-ins for depmod, modprobe and rmmod."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modulus.core.profile.load_causes import LoadCause
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.modules.load import (
    WantedModule,
    load,
    read_wanted,
)
from modulus.host.modules.module_root import ModuleRoot, compose
from modulus.host.report.reporter import PlainReporter
from tests.support.elfmaker import kernel_module

RELEASE = "6.1.0-9-amd64"
MODPROBE = """#!/bin/sh
# Loads into a fake sysfs; says and fails as told by files in $TOOLS.
tools=$(dirname "$0")
for name; do :; done
echo "modprobe $*" >>"$tools/log"
if [ -e "$tools/$name.kmsg" ]; then cat "$tools/$name.kmsg" >>"@ROOT@/dev/kmsg"; fi
if [ -e "$tools/$name.fail" ]; then cat "$tools/$name.fail" >&2; exit 1; fi
kernel=$(echo "$name" | tr - _)
mkdir -p "@ROOT@/sys/module/$kernel"
if [ -e "$tools/$name.other" ]; then
    version=1.0 source=OTHER
else
    version=2.0 source=S$name
fi
echo "$version" >"@ROOT@/sys/module/$kernel/version"
echo "$source" >"@ROOT@/sys/module/$kernel/srcversion"
"""
RMMOD = """#!/bin/sh
echo "rmmod $*" >>"$(dirname "$0")/log"
[ ! -e "$(dirname "$0")/$1.fail" ] || { echo "rmmod: ERROR: Module $1 is in use" >&2; exit 1; }
rm -r "@ROOT@/sys/module/$1"
"""
DEPMOD = """#!/bin/sh
echo "depmod $*" >>"$(dirname "$0")/log"
[ ! -e "$(dirname "$0")/depmod.fail" ] || { echo "depmod: bad module" >&2; exit 1; }
"""


def write(path: Path, content: str | bytes = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@dataclass(frozen=True)
class Node:
    """A fake root with a kernel and the modules gpu and gpu-uvm, and fake tools."""

    root: Path
    tools: Path
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def reporter(self) -> PlainReporter:
        return PlainReporter(self.log)

    @property
    def driver(self) -> DriverPaths:
        return DriverPaths(self.root, "gpu")

    @property
    def kernel(self) -> Path:
        return self.root / "lib/modules" / RELEASE

    @property
    def calls(self) -> list[str]:
        log = self.tools / "log"
        return log.read_text().splitlines() if log.exists() else []

    def module(self, name: str, **info: str) -> Path:
        path = self.root / f"opt/drivers/.gpu/gen/lib/modules/{RELEASE}/{name}.ko"
        values = {"version": "2.0", "srcversion": f"S{name}", "depends": ""} | info
        content = kernel_module(modinfo=values)
        if not path.exists() or path.read_bytes() != content:
            write(path, content)
        return path

    def modules(self) -> dict[str, Path]:
        return {
            "gpu": self.module("gpu", depends="drm"),
            "gpu-uvm": self.module("gpu-uvm", depends="gpu"),
            "gpu-peermem": self.module("gpu-peermem", depends="gpu,ib_uverbs"),
        }

    def compose(
        self,
        modules: Mapping[str, Path] | None = None,
        load: Sequence[str] = ("gpu", "gpu-uvm"),
    ) -> ModuleRoot:
        preload = ("i2c_core", "ipmi_si", "none")
        ours = self.modules() if modules is None else modules
        return compose(self.driver, RELEASE, ours, load, preload)

    def wanted(self) -> list[WantedModule]:
        return [read_wanted(name, self.modules()[name]) for name in ("gpu", "gpu-uvm")]

    def load(self, *causes: LoadCause) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The modules that were loaded, and the ids of findings."""
        before = len(self.calls)
        findings = load(
            self.driver,
            ModuleRoot(self.root / "m", RELEASE, ("ipmi_si",), changed=False),
            self.wanted(),
            causes,
            self.reporter,
        )
        names = [call.split()[-1] for call in self.calls[before:]]
        return (
            tuple(name for name in names if name.startswith("gpu")),
            tuple(finding.id for finding in findings),
        )

    def sysfs(self, name: str, holders: Sequence[str] = (), **values: str) -> None:
        folder = self.root / "sys/module" / name
        for key, value in ({"version": "2.0", "initstate": "live"} | values).items():
            write(folder / key, f"{value}\n")
        for holder in holders:
            (folder / "holders" / holder).mkdir(parents=True)
