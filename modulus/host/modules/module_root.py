"""The module root that a driver is loaded from: its modules and what they need, as links.

depmod(8) and modprobe(8) see nothing else, so that no other copy of the driver and no
configuration of a distribution can come in between, ``/usr`` may be read-only, and depmod
has a dozen modules to look at in place of thousands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.kernel.moddep import (
    Closure,
    HostModule,
    closure,
    find_dependencies,
    module_name,
    parse_builtin,
)
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.errors import RefusedError
from modulus.host.files import atomic, sysfs
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import below, make_dirs, writing
from modulus.host.files.record import read_record
from modulus.host.kernel.module_file import read_module_file
from modulus.host.process.run import CommandError, run

_FORM = 1
"""Raised when the same inputs come to another module root."""
_STAMP = "composed.json"
_CONFIG = "depmod.conf"
_INDEXES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


@dataclass(frozen=True)
class ModuleRoot:
    """A composed module root: what ``-d`` of modprobe takes.

    ``preload`` are the modules to load first, as far as this kernel has them as modules;
    ``changed`` says whether this run made the root.
    """

    path: Path
    release: str
    preload: tuple[str, ...]
    changed: bool


def compose(
    driver: DriverPaths,
    release: str,
    modules: Mapping[str, Path],
    load: Sequence[str],
    preload: Sequence[str] = (),
) -> ModuleRoot:
    """Makes the module root of ``driver`` for kernel ``release``, in /run.

    ``modules`` are all of the driver's modules by name, ``load`` those that will be loaded. The
    root has these, the modules they need, and those of ``preload`` that the kernel has. It is
    made anew only if its inputs have changed. Raises RefusedError where the node lacks a module
    that the driver's need.
    """
    host = below(driver.root, f"/lib/modules/{release}")
    final = driver.module_root
    inputs = {
        "form": _FORM,
        "release": release,
        "modules": {key: _identity(path) for key, path in sorted(modules.items())},
        "load": list(load),
        "preload": list(preload),
        "host": {file: _identity(host / file) for file in ("modules.dep", *_INDEXES)},
    }
    preloads = read_record(final / _STAMP, lambda value: _parse(value, inputs))
    if preloads is not None:
        return ModuleRoot(final, release, preloads, changed=False)
    needs = {
        name: tuple(filter(None, (read_module_file(path).info("depends") or "").split(",")))
        for name, path in modules.items()
    }
    dependencies = find_dependencies(
        sysfs.text(host / "modules.dep") or "",
        (*load, *preload, *(need for own in needs.values() for need in own)),
    )
    builtin = parse_builtin(sysfs.text(host / "modules.builtin") or "")
    extra = [
        module
        for module in preload
        if module_name(module) in dependencies and module_name(module) not in builtin
    ]
    needed = _closure(driver.root, release, host, needs, load, dependencies, builtin)
    for module in extra:
        own = dependencies[module_name(module)]
        needed = Closure(needed.ours, (*needed.files, own.file, *own.needs), ())
    with writing(final):
        make_dirs(final.parent, lasting=False)
        atomic.sweep(final.parent, final.name)
        with atomic.scratch(final.parent, final.name) as scratch:
            made = scratch / "root"
            _fill(made, release, host, {key: modules[key] for key in needed.ours}, needed.files)
            _depmod(made, release)
            stamp = {"inputs": inputs, "preload": extra}
            atomic.write_json(made / _STAMP, stamp, lasting=False)
            atomic.remove_tree(final)
            made.rename(final)
    return ModuleRoot(final, release, tuple(extra), changed=True)


def remove_module_root(driver: DriverPaths) -> bool:
    """Removes what ``compose`` made for ``driver``; False where there is nothing."""
    folder = driver.run
    there = folder.is_dir()
    with writing(folder):
        atomic.remove_tree(folder)
    return there


def _closure(
    root: Path,
    release: str,
    host: Path,
    needs: Mapping[str, Sequence[str]],
    load: Sequence[str],
    dependencies: Mapping[str, HostModule],
    builtin: frozenset[str],
) -> Closure:
    """The modules that loading takes, given what each of the driver's ``needs``; RefusedError
    where the node lacks one."""
    there = root / "sys/module"
    found = closure(
        load,
        needs,
        dependencies,
        lambda name: name in builtin or (there / name).is_dir(),
    )
    if found.missing:
        lacks = ", ".join(
            f"{name} (for {asked})" if asked else name for name, asked in found.missing
        )
        why = "" if (host / "modules.dep").is_file() else ": it has no modules.dep"
        raise RefusedError(
            f"/lib/modules/{release} lacks what the driver needs, {lacks}{why}",
            f"install all modules of this kernel (linux-image-{release}, "
            f"linux-modules-extra-{release} or kernel-modules-extra), run depmod, and run it "
            "again",
        )
    return found


def _fill(
    made: Path, release: str, host: Path, ours: Mapping[str, Path], theirs: Sequence[str]
) -> None:
    folder = made / "lib/modules" / release
    (folder / "updates").mkdir(parents=True)
    # For a kmod that was built to look for modules below /usr.
    (made / "usr").symlink_to(".")
    for name, path in ours.items():
        (folder / "updates" / f"{name}.ko").symlink_to(path.absolute())
    present = [file for file in _INDEXES if (host / file).is_file()]
    for file in dict.fromkeys((*theirs, *present)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).symlink_to((host / file).absolute())
    (made / _CONFIG).write_text("search updates built-in\n")


def _depmod(made: Path, release: str) -> None:
    try:
        run(["depmod", "-b", made, "-C", made / _CONFIG, release])
    except CommandError as error:
        raise RefusedError(
            f"depmod cannot read the driver's modules: {error.message}",
            "run modulus verify, which finds damaged modules",
        ) from error


def _identity(path: Path) -> Any:
    """Path, size and time of a file, which change with it; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [str(path), status.st_size, status.st_mtime_ns]


def _parse(value: object, inputs: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The preload of a root that was made of ``inputs``; None where it was made of others."""
    of = Fields(value, "what is composed")
    preload = of("preload", forms.list_of(forms.module_name))
    return preload if of.all.get("inputs") == inputs else None
