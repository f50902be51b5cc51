"""Kernel header trees as found on a node or in unpacked packages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from modulus.core.kernel.release import KernelConfig, tree_release
from modulus.host.files.paths import inside, resolve
from modulus.host.files.regular import read_text

# These identify a tree without reading it: all change with any rebuild or update.
_TELLING = (
    *("", "Makefile", ".config", "Module.symvers", "scripts/mod/modpost", "include"),
    *("include/generated/autoconf.h", "include/generated/utsrelease.h"),
)


@dataclass(frozen=True)
class HeaderTree:
    """A header tree below ``root``; ``build`` and ``source`` are its resolved folders."""

    root: Path
    build: Path
    source: Path

    def path(self, name: str) -> Path:
        """The resolved path of ``build``'s file ``name``; unresolved for links in a circle."""
        try:
            return resolve(self.root, f"{inside(self.root, self.build)}/{name}")
        except OSError:
            return self.build / name

    def fingerprint(self) -> list[object]:
        """The cheap facts that differ once the tree has changed."""
        seen: list[object] = [str(self.build), str(self.source)]
        for name in _TELLING:
            try:
                state = self.path(name).stat()
            except OSError:
                seen.append(name)
                continue
            seen.append(
                [name, state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino]
            )
        return seen


def find(root: Path, release: str) -> HeaderTree | None:
    """The header tree that ``/lib/modules/RELEASE/build`` below ``root`` leads to, if any."""
    try:
        return _find(root, release)
    except OSError:  # Links in a circle.
        return None


def _find(root: Path, release: str) -> HeaderTree | None:
    modules = next(
        (base for base in ("/lib/modules", "/usr/lib/modules")
         if os.path.lexists(resolve(root, base) / release / "build")),
        None,
    )  # fmt: skip
    if modules is None:
        return None
    build = resolve(root, f"{modules}/{release}/build")
    if not build.is_dir():
        return None
    for link in (f"{modules}/{release}/source", f"{inside(root, build)}/source"):
        source = resolve(root, link)
        if (source / "Makefile").is_file():
            return HeaderTree(root, build, source)
    return HeaderTree(root, build, build)


def objection(tree: HeaderTree, release: str) -> str | None:
    """Why modules cannot be built for ``release`` against ``tree``, or None."""
    needed = [".config", "Makefile", "include/generated/autoconf.h", "scripts/basic/fixdep"]
    try:
        config = KernelConfig.parse(read_text(tree.path(".config")))
    except OSError:
        return "it has no .config"
    if config.enabled("OBJTOOL") or config.enabled("STACK_VALIDATION"):
        needed.append("tools/objtool/objtool")
    for name in (*needed, "scripts/mod/modpost", "Module.symvers"):
        path = tree.path(name)
        if not path.is_file() or not path.stat().st_size:
            return f"it has no {name}"
    found = tree_release(
        _text(tree.path("include/config/kernel.release")),
        _text(tree.path("include/generated/utsrelease.h")),
    )
    return None if found == release else f"it is for kernel {found or 'unknown'}"


def _text(path: Path) -> str | None:
    try:
        return read_text(path)
    except OSError:
        return None
