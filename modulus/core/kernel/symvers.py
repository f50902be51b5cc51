"""Checks what modules import against what the kernel and the other modules export.

The kernel refuses a module with an import that it lacks or has in another version, and says so
only when the module is loaded. ``Module.symvers`` (Documentation/kbuild/modules.rst) tells this
at build time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modulus.core.kernel.elf import KernelModule
from modulus.core.wording import some
from modulus.errors import ToolchainError

_GPL_COMPATIBLE = frozenset(
    {
        "GPL",
        "GPL v2",
        "GPL and additional rights",
        "Dual BSD/GPL",
        "Dual MIT/GPL",
        "Dual MPL/GPL",
    }
)
"""Licences that may use GPL-only symbols: ``include/linux/license.h``."""

_LAYOUT = "module_layout"
"""The version of ``struct module`` itself, which every module with versions carries."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Export:
    """An exported symbol: its CRC, 0 where it has no version, and who may use it."""

    crc: int
    gpl_only: bool


def parse_symvers(lines: Iterable[str]) -> dict[str, Export]:
    """The exports in a ``Module.symvers``, by name; ToolchainError where it is damaged.

    Fields are split by tabs: CRC, name, module, kind of export and, since Linux 5.4, the
    namespace, which some 5.4 and 5.5 kernels have in third place.
    """
    exports: dict[str, Export] = {}
    for number, line in enumerate(lines, 1):
        fields = line.rstrip("\n").split("\t")
        kind = next((field for field in fields[3:] if field.startswith("EXPORT_")), None)
        try:
            crc = int(fields[0], 16)
        except ValueError:
            crc = -1
        if kind is None or not 0 <= crc <= 0xFFFFFFFF:
            raise ToolchainError(
                f"line {number} of the kernel's Module.symvers makes no sense",
                "provision the kernel's headers anew",
            )
        exports[fields[1]] = Export(crc, kind.endswith("_GPL"))
    return exports


def check_imports(
    modules: Mapping[str, KernelModule], kernel: Mapping[str, Export]
) -> tuple[str, ...]:
    """Why the kernel would not link ``modules``, one line per problem and module.

    ``kernel`` is its Module.symvers. ``modules`` are by name; each may use others' exports.
    """
    exports = dict(kernel)
    for module in modules.values():
        exports |= {name: Export(crc or 0, False) for name, crc in module.exports.items()}
    return tuple(
        f"{name}: {problem}"
        for name, module in modules.items()
        for problem in _problems(module, exports)
    )


def _problems(module: KernelModule, exports: Mapping[str, Export]) -> Iterable[str]:
    missing = sorted(module.undefined - exports.keys())
    if missing:
        yield f"nothing exports {some(missing, _SHOWN)}"
    needed = {name: exports[name] for name in module.undefined & exports.keys()}
    license_ = module.info("license") or ""
    if license_ not in _GPL_COMPATIBLE:
        forbidden = sorted(name for name, export in needed.items() if export.gpl_only)
        if forbidden:
            yield f"its licence {license_!r} forbids the GPL-only {some(forbidden, _SHOWN)}"
    if _LAYOUT in exports:
        needed[_LAYOUT] = exports[_LAYOUT]
    versioned = {name: export.crc for name, export in needed.items() if export.crc}
    bare = sorted(versioned.keys() - module.versions.keys())
    if bare:
        yield f"has no version of {some(bare, _SHOWN)}"
    other = sorted(
        name
        for name, crc in versioned.items()
        if name in module.versions and module.versions[name] != crc
    )
    if other:
        yield f"was built for another version of {some(other, _SHOWN)}"
