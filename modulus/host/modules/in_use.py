"""Tells who uses a driver, from a root's /sys/module and /proc."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modulus.core.kernel.moddep import module_name
from modulus.core.modules.in_use import ModuleUse, NodeSet, Users, module_users
from modulus.core.profile.profile import Profile
from modulus.host.files import sysfs
from modulus.host.files.driver_paths import DriverNames
from modulus.host.process.processes import processes_using


def users(root: Path, profile: Profile, modules: Sequence[str], nodes: NodeSet) -> Users:
    """Who uses the driver whose loaded ``modules`` (``unload_order``) are to go.

    ``nodes`` are its device nodes. Users are modules that hold one of ``modules`` and are not
    among them, and processes with one of ``nodes`` open or a library of the driver mapped.
    """
    uses = {name: use for name in modules if (use := module_use(root, name))}
    blocking, references = module_users(modules, profile.build, uses)
    driver = DriverNames(profile.name)
    processes = processes_using(root, nodes, (driver.generations, driver.link))
    return Users(processes, blocking, references)


def module_use(root: Path, name: str) -> ModuleUse | None:
    """How a module is used; None where it is not loaded, or built in and not counted."""
    folder = root / "sys/module" / module_name(name)
    refcount = sysfs.number(folder / "refcnt")
    if refcount is None:
        return None
    return ModuleUse(refcount, sysfs.names(folder / "holders"))
