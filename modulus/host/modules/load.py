"""Loads a driver's modules by name, in order, from its own module root."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modulus.core.findings import Finding
from modulus.core.kernel.moddep import module_name
from modulus.core.profile.load_causes import LoadCause, explain, log_findings
from modulus.errors import BusyError, ModulusError
from modulus.host.files import sysfs
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.kernel.log import KernelLog, kernel_log
from modulus.host.kernel.module_file import read_module_file
from modulus.host.modules.foreign import origin_of
from modulus.host.modules.module_root import ModuleRoot
from modulus.host.process.run import CommandError
from modulus.host.process.uninterruptible import Whole, shelter
from modulus.host.report.notify import ask_for_time
from modulus.host.report.reporter import Reporter

LOAD_SECONDS = 300.0
"""How long a module may take to start: some seconds for each GPU."""
SETTLE_SECONDS = 30.0
"""How long a load that outlived its run may go on."""
_POLL_SECONDS = 0.1
_HANGS = (
    "read the kernel's log (journalctl -k -b); what hangs in the kernel goes only with a reboot"
)


@dataclass(frozen=True)
class Loaded:
    """A module in the kernel, as sysfs shows it; ``name`` has ``_`` for ``-``.

    ``holders`` are the modules that use it. ``state`` is live, coming or going; ``refcnt`` is
    None where the kernel cannot unload.
    """

    name: str
    version: str | None
    srcversion: str | None
    refcnt: int | None
    holders: tuple[str, ...]
    state: str


@dataclass(frozen=True)
class WantedModule:
    """A module to load: its name as in the profile, its file, and what sysfs will show.

    ``depends`` are the modules that it says it needs.
    """

    name: str
    path: Path
    version: str | None
    srcversion: str | None
    depends: tuple[str, ...] = ()


def loaded(root: Path, names: Iterable[str]) -> dict[str, Loaded]:
    """Those of the modules ``names`` that are in the kernel, by the kernel's name."""
    found = (_state(root, module_name(name)) for name in names)
    return {module.name: module for module in found if module}


def settled(root: Path, names: Sequence[str], reporter: Reporter) -> dict[str, Loaded]:
    """What ``loaded`` returns once none of ``names`` is being loaded or unloaded any more.

    A killed run may have left such a module. Raises BusyError where one does not settle within
    ``SETTLE_SECONDS``.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    told = False
    while True:
        present = loaded(root, names)
        module = next((each for each in present.values() if each.state != "live"), None)
        if module is None:
            return present
        if time.monotonic() >= deadline:
            raise BusyError(
                f"{module.name} is {module.state}, and has been for {SETTLE_SECONDS:.0f} s",
                _HANGS,
            )
        if not told:
            told = True
            reporter.phase("wait", f"for {module.name}, which is {module.state}")
            ask_for_time(SETTLE_SECONDS)
        time.sleep(_POLL_SECONDS)


def read_wanted(name: str, path: Path) -> WantedModule:
    """What to expect of the module in ``path``; IntegrityError where that is no module."""
    module = read_module_file(path)
    return WantedModule(
        name,
        path,
        module.info("version"),
        module.info("srcversion"),
        tuple(filter(None, (module.info("depends") or "").split(","))),
    )


def check_loaded(
    driver: DriverPaths, release: str, wanted: Sequence[WantedModule]
) -> tuple[WantedModule, ...]:
    """Those of ``wanted`` that are still to be loaded into kernel ``release``.

    Raises BusyError where another version is loaded, and says where that is from. Call it
    before anything of a running driver, such as the firmware's path, is changed.
    """
    for module, state in strangers(driver.root, wanted):
        _refuse(driver, release, module, state)
    return not_loaded(driver.root, wanted)


def strangers(
    root: Path, wanted: Sequence[WantedModule]
) -> tuple[tuple[WantedModule, Loaded], ...]:
    """Those of ``wanted`` with another version or build loaded in their place, and that one."""
    present = loaded(root, (module.name for module in wanted))
    found = ((module, present.get(module_name(module.name))) for module in wanted)
    return tuple((module, state) for module, state in found if state and not _is(state, module))


def not_loaded(root: Path, wanted: Sequence[WantedModule]) -> tuple[WantedModule, ...]:
    """Those of ``wanted`` that are not in the kernel, or not at work there."""
    present = loaded(root, (module.name for module in wanted))
    return tuple(
        module
        for module in wanted
        if not _is_live(present, module) or not _is(present[module_name(module.name)], module)
    )


def load(
    driver: DriverPaths,
    modules: ModuleRoot,
    wanted: Sequence[WantedModule],
    causes: Sequence[LoadCause],
    reporter: Reporter,
) -> tuple[Finding, ...]:
    """Loads those of ``wanted`` that are not loaded, in order, for ``driver``.

    Returns findings from what the kernel said meanwhile.

    The driver's own file is the only configuration that modprobe reads. A module of ``preload``
    that fails is a warning. Raises BusyError where another version is loaded; where the kernel
    refuses a module, the error that its log tells (``core.profile.load_causes``).
    """
    root, name = driver.root, driver.name
    todo = check_loaded(driver, modules.release, wanted)
    if not todo:
        told = ", ".join(module.name for module in wanted)
        reporter.phase("load", f"{told or 'nothing'}: loaded already")
        return ()
    command = ("modprobe", "-d", modules.path, "-C", driver.modprobe_config, "--ignore-install")
    said: list[str] = []
    with kernel_log(root) as log, shelter(f"Modules of {name}, as they are loaded") as whole:
        for extra in modules.preload:
            if not loaded(root, [extra]):
                try:
                    whole([*command, extra], LOAD_SECONDS)
                except ModulusError as error:
                    reporter.warn(f"{extra} was not loaded before {name}: {error.message}")
        log.new_messages()
        for module in todo:
            reporter.phase("load", " ".join(filter(None, (module.name, module.version))))
            said += _load(whole, command, module, modules.release, causes, log)
            state = _state(root, module_name(module.name))
            if state and not _is(state, module):
                _refuse(driver, modules.release, module, state)
    names = tuple(module.name for module in todo)
    return log_findings(said, names, modules.release, causes)


def _load(
    whole: Whole,
    command: Sequence[str | Path],
    module: WantedModule,
    release: str,
    causes: Sequence[LoadCause],
    log: KernelLog,
) -> tuple[str, ...]:
    """Loads ``module``; returns what the kernel said meanwhile."""
    try:
        whole([*command, module.name], LOAD_SECONDS)
    except CommandError as error:
        if error.status is None:
            raise BusyError(
                f"{module.name} did not finish loading in {LOAD_SECONDS:.0f} s",
                _HANGS,
            ) from error
        raise explain(module.name, release, log.new_messages(), error.output, causes) from error
    return log.new_messages()


def _is(state: Loaded, wanted: WantedModule) -> bool:
    """Whether the loaded module is the wanted one, as far as the two tell."""
    return (wanted.version, wanted.srcversion) == (
        state.version if wanted.version else None,
        state.srcversion if wanted.srcversion else None,
    )


def _is_live(present: Mapping[str, Loaded], wanted: WantedModule) -> bool:
    state = present.get(module_name(wanted.name))
    return state is not None and state.state == "live"


def _refuse(driver: DriverPaths, release: str, wanted: WantedModule, state: Loaded) -> None:
    """Raises BusyError for a module that is not the wanted one."""
    origin = origin_of(driver, release, wanted.name, state.srcversion)
    where = f" is loaded from {origin}" if origin else " is loaded"
    if state.version and state.version != wanted.version:
        what = f"{wanted.name} {state.version}{where}, not {wanted.version or 'ours'}"
    else:
        what = f"{wanted.name}{where}, another build than ours"
    if origin and not origin.foreign:
        hint = (
            "end what uses it and take it down "
            f"(modulus down {driver.name}-{state.version or 'VERSION'}), or reboot"
        )
    else:
        hint = (
            "remove the other driver (its package, or with dkms remove what dkms status shows) "
            f"and reboot, or unload it (rmmod {state.name}), and run it again"
        )
    raise BusyError(what, hint)


def _state(root: Path, name: str) -> Loaded | None:
    folder = root / "sys/module" / name
    if not folder.is_dir():
        return None
    return Loaded(
        name=name,
        version=sysfs.text(folder / "version"),
        srcversion=sysfs.text(folder / "srcversion"),
        refcnt=sysfs.number(folder / "refcnt"),
        holders=sysfs.names(folder / "holders"),
        state=sysfs.text(folder / "initstate") or "live",
    )
