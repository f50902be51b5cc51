"""Takes a driver's modules out of the kernel: these, in order, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from modulus.core.kernel.moddep import module_name
from modulus.errors import BusyError, ModulusError
from modulus.host.modules.load import Loaded, loaded
from modulus.host.process.uninterruptible import shelter
from modulus.host.report.reporter import Reporter

UNLOAD_SECONDS = 120.0


def unload(root: Path, order: Sequence[str], reporter: Reporter) -> tuple[str, ...]:
    """Unloads those of the modules ``order`` that are loaded; returns their names.

    Raises BusyError before the first one is unloaded where one of them is in use, so that
    no half of a driver is left; the caller knows by whom (``host.modules.in_use``).
    rmmod(8) and not ``modprobe -r``, which would also take away what the node's own modules
    no longer need, and run what a distribution has configured.
    """
    present = loaded(root, order)
    busy = users(present)
    if busy:
        raise BusyError(
            f"the driver is in use: {'; '.join(busy)}",
            "end what uses it and run it again, or reboot",
        )
    names = tuple(name for name in map(module_name, order) if name in present)
    with shelter("Modules, as they are unloaded") as whole:
        for name in dict.fromkeys(names):
            reporter.phase("load", f"unloading {name}")
            try:
                whole(["rmmod", name], UNLOAD_SECONDS)
            except ModulusError as error:
                if loaded(root, [name]):
                    raise BusyError(
                        f"{name} was not unloaded: {error.message}",
                        "end what uses it and run it again, or reboot",
                    ) from error
    return names


def users(modules: Mapping[str, Loaded]) -> tuple[str, ...]:
    """Why ``modules`` cannot all be unloaded, a few words for each that is in use.

    A module is in use by modules that are not among them, and by open devices: its reference
    count beyond its holders.
    """
    return tuple(filter(None, (_users(module, modules) for module in modules.values())))


def _users(module: Loaded, modules: Iterable[str]) -> str:
    others = [holder for holder in module.holders if module_name(holder) not in set(modules)]
    opened = (module.refcnt or 0) - len(module.holders)
    by = [f"module {holder}" for holder in others]
    if opened > 0:
        by.append(f"{opened} open device" + ("s" if opened > 1 else ""))
    return f"{module.name} by {' and '.join(by)}" if by else ""
