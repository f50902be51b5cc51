"""Looks at modules that were built for what would make the kernel refuse them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

from modulus.core.dataclass import dataclass
from modulus.core.elf import KernelModule, read_module
from modulus.core.recipe import Recipe, spellings
from modulus.core.symvers import Export, check_imports
from modulus.errors import BuildError
from modulus.host.files import sha256_file


@dataclass(frozen=True)
class Module:
    """A module that was built: ``file`` in the folder of results, ``size`` in bytes.

    ``srcversion`` is None where neither kernel nor module asks for one.
    """

    name: str
    file: str
    sha256: str
    size: int
    vermagic: str
    srcversion: str | None


def inspect_modules(
    recipe: Recipe, kernel: Mapping[str, Export], out: Path, *, srcversion: bool
) -> tuple[Module, ...]:
    """The built modules; BuildError with every reason why the kernel would refuse one.

    ``kernel`` is what it exports; ``srcversion`` whether it wants one of every module.
    """
    problems: list[str] = []
    found: dict[str, KernelModule] = {}
    for name in recipe.modules:
        try:
            found[name] = _read(out / f"{name}.ko")
        except (ValueError, OSError) as error:
            problems.append(f"{name}: {error}")
    for name, module in found.items():
        problems += (f"{name}: {why}" for why in _faults(module, name, recipe, srcversion))
    problems += check_imports(found, kernel)
    if problems:
        raise BuildError(
            f"kernel {recipe.release} would not take what was built: {'; '.join(problems)}",
            "choose a driver version that supports this kernel",
        )
    return tuple(
        Module(
            name=name,
            file=f"{name}.ko",
            sha256=sha256_file(out / f"{name}.ko"),
            size=(out / f"{name}.ko").stat().st_size,
            vermagic=(module.info("vermagic") or "").strip(),
            srcversion=module.info("srcversion"),
        )
        for name, module in found.items()
    )


def _read(path: Path) -> KernelModule:
    """Takes the file over from the payload, which is another user, and reads what it is.

    Mapped, as the largest modules have 65 MB. A link would lead out of the container.
    """
    if path.is_symlink() or not path.is_file():
        raise ValueError("is no regular file")
    os.chown(path, os.geteuid(), os.getegid())
    path.chmod(0o644)
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return read_module(data)


def _faults(module: KernelModule, name: str, recipe: Recipe, srcversion: bool) -> list[str]:
    faults = []
    vermagic = module.info("vermagic") or ""
    if vermagic.split(" ")[0] != recipe.release:
        faults.append(f"its vermagic is {vermagic.strip()!r}")
    own_name = module.info("name")
    if own_name is not None and own_name not in spellings(name):
        faults.append(f"is the module {own_name}")
    if module.machine != recipe.arch:
        faults.append(f"is for {module.machine}")
    debug = sorted(section for section in module.sections if ".debug_" in section)
    if debug:
        faults.append(f"has debug information ({debug[0]})")
    if not module.info("srcversion") and (srcversion or module.info("version")):
        faults.append("has no srcversion")
    return faults
