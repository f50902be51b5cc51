"""What a kernel's own modules are and need: the texts of modules.dep and modules.builtin."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from modulus.core.record.forms import is_inside

_SUFFIX = re.compile(r"\.ko(?:\.(?:gz|xz|zst))?$")


@dataclass(frozen=True)
class HostModule:
    """A module of the kernel: its file, and the files of all it needs, directly or not.

    Paths are relative to ``/lib/modules/RELEASE``.
    """

    file: str
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Closure:
    """What loading some modules takes.

    ``ours`` are names of the driver's own modules, ``files`` the kernel's, as in modules.dep,
    ``missing`` pairs of a module that is nowhere and the one that needs it.
    """

    ours: tuple[str, ...]
    files: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]


def module_name(name: str) -> str:
    """What the kernel calls the module of this name or in this file: ``-`` becomes ``_``."""
    return _SUFFIX.sub("", posixpath.basename(name)).replace("-", "_")


def parse_builtin(text: str) -> frozenset[str]:
    """The names of modules.builtin."""
    return frozenset(map(module_name, text.split()))


def find_dependencies(text: str, names: Iterable[str]) -> dict[str, HostModule]:
    """Those of the modules ``names`` that are in modules.dep, by the kernel's name.

    A line is a module's file, a colon, and the files of all it needs (modules.dep(5)). There
    are thousands of lines, so only those asked for are parsed. The first of two lines for one
    name counts.
    """
    spelled = "|".join(
        re.escape(name).replace("_", "[-_]") for name in sorted(set(map(module_name, names)))
    )
    if not spelled:
        return {}
    found: dict[str, HostModule] = {}
    line = rf"^[ \t]*((?:[^:\n]*/)?(?:{spelled})\.ko(?:\.(?:gz|xz|zst))?)[ \t]*:(.*)$"
    for match in re.finditer(line, text, re.MULTILINE):
        files = (match[1], *match[2].split())
        if all(map(is_inside, files)):
            found.setdefault(module_name(files[0]), HostModule(files[0], files[1:]))
    return found


def closure(
    load: Iterable[str],
    ours: Mapping[str, Collection[str]],
    host: Mapping[str, HostModule],
    in_kernel: Callable[[str], bool],
) -> Closure:
    """What it takes to load the modules ``load`` of the driver.

    ``ours`` are all its modules by name, each with the names its ``depends`` lists;
    ``in_kernel`` says whether a module is built in or loaded already.
    """
    names = {module_name(name): name for name in ours}
    todo = [(module_name(name), "") for name in load]
    wanted: dict[str, None] = {}
    files: dict[str, None] = {}
    missing: dict[str, str] = {}
    for name, asked in todo:
        if name in names:
            if names[name] not in wanted:
                wanted[names[name]] = None
                todo += ((module_name(need), names[name]) for need in ours[names[name]])
        elif name in host:
            files.update(dict.fromkeys((host[name].file, *host[name].needs)))
        elif not in_kernel(name):
            missing.setdefault(name, asked)
    theirs = tuple(file for file in files if module_name(file) not in names)
    return Closure(tuple(wanted), theirs, tuple(missing.items()))
