"""Searches built modules for faults that would make the kernel refuse them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from modulus.core.build.recipe import Recipe, spellings
from modulus.core.kernel.elf import KernelModule, read_module
from modulus.core.kernel.symvers import Export, check_imports
from modulus.errors import BuildError
from modulus.host.files.data import FileData
from modulus.host.files.digest import hash_open
from modulus.host.files.regular import open_regular

_MOST_FILE = 1 << 30
_MOST_ALL = 4 << 30
"""Bytes; the largest modules have 65 MB."""

_SHOWN = 20
_LONGEST = 300
"""How many problems are told, and how many characters of each."""


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


def check_modules(
    recipe: Recipe, kernel: Mapping[str, Export], out: Path, *, srcversion: bool
) -> tuple[Module, ...]:
    """The built modules; BuildError with every reason why the kernel would refuse one.

    ``kernel`` are its exports; ``srcversion`` says whether it wants one in every module. The
    folder and files become ours: the payload is another user, and has ended.
    """
    problems: list[str] = []
    found: dict[str, KernelModule] = {}
    made: list[Module] = []
    with _taken_over(out) as folder:
        for name in recipe.modules:
            try:
                with _take_over(folder, f"{name}.ko") as file:
                    found[name] = read_module(FileData(file))
                    made.append(_module(name, file, found[name]))
            except (ValueError, OSError) as error:
                problems.append(f"{name}: {error}")
    for name, module in found.items():
        problems += (f"{name}: {why}" for why in _faults(module, name, recipe, srcversion))
    problems += check_imports(found, kernel)
    if problems:
        raise BuildError(
            f"kernel {recipe.release} would not take what was built: {_listed(problems)}",
            "choose a driver version that supports this kernel",
        )
    return tuple(made)


_OTHER = (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO)
"""What opening a link, a folder, a pipe or a socket comes to."""


@contextlib.contextmanager
def _taken_over(out: Path) -> Iterator[int]:
    """Opens the folder of results and makes it ours; BuildError where it holds too much."""
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(folder, os.geteuid(), os.getegid())
        os.fchmod(folder, 0o755)
        with os.scandir(folder) as entries:
            size = sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        if size > _MOST_ALL:
            raise BuildError(
                f"the build left {size >> 30} GiB of results, more than {_MOST_ALL >> 30}",
                "see in its log what the driver has made there",
            )
        yield folder
    finally:
        os.close(folder)


def _take_over(folder: int, name: str) -> FileIO:
    """Opens the file once, checks it and makes it ours by its descriptor: a link would lead out
    of the container, a second name to another file that the payload could reach."""
    try:
        file = open_regular(name, folder=folder, follow=False)
    except OSError as error:
        if error.errno in _OTHER:
            raise ValueError("is no regular file") from error
        raise
    try:
        status = os.fstat(file.fileno())
        if status.st_nlink != 1:
            raise ValueError("has other names as well")
        if status.st_size > _MOST_FILE:
            raise ValueError(f"is larger than {_MOST_FILE >> 30} GiB")
        os.fchown(file.fileno(), os.geteuid(), os.getegid())
        os.fchmod(file.fileno(), 0o644)
    except BaseException:
        file.close()
        raise
    return file


def _module(name: str, file: FileIO, read: KernelModule) -> Module:
    return Module(
        name=name,
        file=f"{name}.ko",
        sha256=hash_open(file),
        size=os.fstat(file.fileno()).st_size,
        vermagic=(read.info("vermagic") or "").strip(),
        srcversion=read.info("srcversion"),
    )


def _listed(problems: Sequence[str]) -> str:
    """The problems on one line, bounded in number and length."""
    shown = "; ".join(problem[:_LONGEST] for problem in problems[:_SHOWN])
    if len(problems) > _SHOWN:
        shown += f"; and {len(problems) - _SHOWN} more"
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in shown)


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
