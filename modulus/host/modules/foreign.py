"""Modules of the same driver that others have put on the node: a distribution, DKMS, a person.

None of these modules is touched. They are reported, kept from being loaded by alias, and named
where one of them is loaded in place of ours.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

from modulus.core.findings import Finding
from modulus.core.kernel.moddep import find_dependencies, module_name
from modulus.core.kernel.modprobe import stand_ins
from modulus.errors import IntegrityError
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import below
from modulus.host.files.regular import read_text
from modulus.host.generation.install import active_generation
from modulus.host.kernel.module_file import read_module_file

_CONFIGS = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)
_ADDED = ("updates", "extra", "weak-updates")
"""Folders where modules are added to a kernel's own; depmod may not have run since."""


@dataclass(frozen=True)
class ModuleOrigin:
    """A file that a module may have come from, seen from inside the root, and whose it is."""

    file: str
    owner: str
    foreign: bool = True

    def __str__(self) -> str:
        return f"{self.file} ({self.owner})"


def find_foreign(
    driver: DriverPaths, release: str, modules: Collection[str]
) -> tuple[ModuleOrigin, ...]:
    """The modules for kernel ``release`` that would be loaded as one of ``modules``.

    They have the same name, or modprobe's configuration puts them in the place of one.
    The own configuration of ``driver`` does not count.
    """
    wanted = {module_name(module) for module in modules}
    wanted |= {module_name(other) for other in _stand_ins(driver, modules)}
    found = _installed(driver.root, release, wanted)
    return tuple(
        ModuleOrigin(f"/lib/modules/{release}/{file}", _owner(file)) for file in sorted(found)
    )


def foreign_names(found: Iterable[ModuleOrigin]) -> tuple[str, ...]:
    """The names of the modules that were found, for the blacklist."""
    return tuple(dict.fromkeys(module_name(origin.file) for origin in found))


def foreign_findings(name: str, found: Iterable[ModuleOrigin]) -> tuple[Finding, ...]:
    """A finding for each folder that has others' modules of the driver ``name``."""
    return tuple(
        Finding(
            id="foreign-module",
            level="loaded",
            severity="warning",
            message=f"{folder} holds another {name}: "
            + ", ".join(PurePosixPath(origin.file).name for origin in origins),
            cause=f"{origins[0].owner} installed it for this kernel; whoever loads it first, "
            "such as an initramfs, keeps ours out",
            fix="remove it: its package, or with dkms remove what dkms status shows",
        )
        for folder, group in groupby(
            found, lambda origin: str(PurePosixPath(origin.file).parent)
        )
        if (origins := list(group))
    )


def origin_of(
    driver: DriverPaths, release: str, module: str, srcversion: str | None
) -> ModuleOrigin | None:
    """Where the loaded ``module`` of that ``srcversion`` seems to be from; None if unknown.

    The kernel does not keep the origin. A file with the loaded module's srcversion is taken
    for it; a compressed file is, where it is the only candidate.
    """
    root, others = driver.root, find_foreign(driver, release, [module])
    active = active_generation(driver)
    own = [
        ModuleOrigin(
            f"/{path.relative_to(root)}",
            "the active generation"
            if active and path.is_relative_to(active.path)
            else "an earlier generation",
            foreign=False,
        )
        for path in driver.generations.glob(f"*/lib/modules/*/{module}.ko")
    ]
    for origin in (*others, *own):
        with contextlib.suppress(IntegrityError):
            seen = read_module_file(below(root, origin.file)).info("srcversion")
            if srcversion and seen == srcversion:
                return origin
    packed = [origin for origin in others if not origin.file.endswith(".ko")]
    return packed[0] if len(others) == len(packed) == 1 else None


def _installed(root: Path, release: str, wanted: Collection[str]) -> set[str]:
    """The files of the kernel's modules called ``wanted``, relative to its folder."""
    folder = below(root, f"/lib/modules/{release}")
    found: set[str] = set()
    with contextlib.suppress(OSError):
        text = read_text(folder / "modules.dep")
        # depmod's index may still have what has been removed.
        found = {
            module.file
            for module in find_dependencies(text, wanted).values()
            if os.path.lexists(folder / module.file)
        }
    for name in _ADDED:
        for path, _, files in os.walk(folder / name):
            found |= {
                str(Path(path, file).relative_to(folder))
                for file in files
                if ".ko" in file and module_name(file) in wanted
            }
    return found


def _stand_ins(driver: DriverPaths, modules: Collection[str]) -> set[str]:
    found: set[str] = set()
    root, ours = driver.root, driver.modprobe_config
    for config in _CONFIGS:
        folder = below(root, config)
        for path in folder.glob("*.conf"):
            if path != ours:
                with contextlib.suppress(OSError):
                    text = read_text(below(root, f"{config}/{path.name}"))
                    found.update(stand_ins(text, modules))
    return found


def _owner(file: str) -> str:
    """Who puts modules there; ``file`` is relative to the kernel's folder."""
    folders = PurePosixPath(file).parts[:-1]
    if "dkms" in folders:
        return "DKMS"
    if folders[:1] == ("kernel",):
        return "the distribution"
    return "another package or installer"
