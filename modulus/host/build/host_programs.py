"""What a build without a container needs of the host, asked before it begins.

kbuild runs programs that came with the kernel's headers. In a build container a toolchain has
what they are linked against; on a host it may lack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modulus.core.generation.ldcache import FLAGS, CacheEntry, find_library
from modulus.core.generation.soname import Program
from modulus.errors import ToolchainError
from modulus.host.generation.linker import linker_cache
from modulus.host.generation.soname import read_program
from modulus.host.process.run import find

_COMMANDS = ("awk", "cat", "cp", "find", "grep", "sed", "sh")
"""What kbuild and the build script call besides the tools that are part of a build's key."""

_PROGRAMS = (
    *("scripts/basic/fixdep", "scripts/mod/modpost", "scripts/genksyms/genksyms"),
    *("scripts/recordmcount", "tools/objtool/objtool"),
)
"""What kbuild runs of a kernel's headers to make a module; which of them there are depends on
the kernel (scripts/Makefile.build, scripts/Makefile.lib)."""

_PACKAGES = {"libelf.so.1": "libelf1", "libcrypto.so.3": "libssl3"}
"""Debian's and Ubuntu's packages of libraries."""


def check_host(headers: Path, machine: str, host: Path = Path("/")) -> None:
    """Raises ToolchainError where the ``host`` lacks what a build with ``headers`` runs.

    Its programs are those of ``machine``, as ``uname -m`` names it.
    """
    missing = [name for name in _COMMANDS if find(name) is None]
    if missing:
        raise ToolchainError(
            f"{', '.join(missing)} of the host are needed without a build container",
            "install them, or set build.container to auto",
        )
    cache = linker_cache(host)
    for name in _PROGRAMS:
        try:
            program = read_program(headers / "build" / name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ToolchainError(
                f"{name} of the kernel's headers cannot run: {error}",
                "install the complete headers of this kernel",
            ) from error
        if program:
            _check(name, program, machine, host, cache)


def _check(
    name: str, program: Program, machine: str, host: Path, cache: tuple[CacheEntry, ...]
) -> None:
    if program.machine != machine:
        raise ToolchainError(
            f"{name} of the kernel's headers is for {program.machine}, this is {machine}",
            "install headers that were made on such a machine",
        )
    lacking = [*_lacking(program, machine, host, cache)]
    if lacking:
        names = " ".join(_PACKAGES.get(library, "") for library in lacking).strip()
        known = f" (on Debian: apt-get install {names})" if names else ""
        raise ToolchainError(
            f"{name} of the kernel's headers needs {', '.join(lacking)}, which this host lacks",
            f"install the package that has it{known}, or set build.container to auto",
        )


def _lacking(
    program: Program, machine: str, host: Path, cache: tuple[CacheEntry, ...]
) -> Iterator[str]:
    """The libraries that the dynamic linker would not find; none where that cannot be told."""
    if program.has_path or not cache or machine not in FLAGS:
        return
    for library in program.needed:
        path = find_library(library, machine, cache)
        if path is None or not (host / path.lstrip("/")).exists():
            yield library
