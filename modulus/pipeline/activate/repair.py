"""``up --repair``: puts right what is around the modules of a loaded driver.

It goes by what ``up`` has recorded, and so needs no profile, settings, manifest or store. A
device node that vanished is to be back within two seconds: imports are most of that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from modulus.core.findings import Finding
from modulus.core.generation.recorded_state import RecordedState
from modulus.core.instance import Instance
from modulus.errors import VerifyError
from modulus.host.devices.apply import provide_nodes
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.lock import LOCKS, locked
from modulus.host.files.place import below, replace_file, writing
from modulus.host.generation.recorded_state import (
    changed_files,
    drift,
    driven_gpus,
    driver_majors,
    gpu_drift,
    module_drift,
    read_recorded_state,
    setup_drift,
    srcversion,
    write_recorded_state,
)
from modulus.host.kernel.firmware_path import firmware_path
from modulus.host.report.reporter import Reporter

_LINKER = "/etc/ld.so.conf.d/"


@dataclass(frozen=True)
class Repaired:
    """What was wrong, and what stays wrong; ``generation`` is the one that is loaded."""

    generation: str
    wrong: tuple[str, ...]
    findings: tuple[Finding, ...]


def repair(
    root: Path, instance: Instance, reporter: Reporter, lock_timeout: float | None
) -> Repaired:
    """Puts device nodes, their links, generated files and the firmware's path right.

    Reports what was wrong with each. Raises VerifyError where only a whole ``up`` helps: the
    driver is not loaded any more, or is another one.
    """
    reporter.about(instance=str(instance))
    driver = DriverPaths(root, instance.profile)
    with _locked(root, driver.name, reporter, lock_timeout):
        state = _loaded_state(driver, instance)
        wrong = drift(root, state)
        _put_back(driver, state, reporter)
        for line in module_drift(root, state):
            reporter.phase("verify", line)
        nodes = provide_nodes(root, state.rules, reporter, repair=True)
        _tell_gpus(root, state, reporter)
        write_recorded_state(
            driver,
            replace(
                state,
                modules={module: srcversion(root, module) for module in state.modules},
                majors=driver_majors(root, state),
                firmware=None if state.firmware is None else firmware_path(root),
                gpus=driven_gpus(root, state),
                nodes=nodes.wanted,
            ),
        )
    _tell(nodes.findings, reporter)
    return Repaired(state.generation, wrong, nodes.findings)


@contextlib.contextmanager
def _locked(root: Path, name: str, reporter: Reporter, timeout: float | None) -> Iterator[None]:
    """Holds the lock of ``up`` on the driver ``name``."""
    path = below(root, LOCKS) / f"up-{name}"
    with contextlib.ExitStack() as stack:
        with writing(path):
            stack.enter_context(locked(path, f"the driver {name}", reporter, timeout))
        yield


def _loaded_state(driver: DriverPaths, instance: Instance) -> RecordedState:
    """The recorded state; VerifyError where it is not that of the loaded driver."""
    state = read_recorded_state(driver)
    if state is None or state.instance != str(instance):
        found = f"{state.instance} is" if state else "no driver is known to be"
        raise VerifyError(
            f"{instance} is not what is to be kept right: {found} at work",
            f"run modulus up {instance}",
        )
    for name in state.needed:
        now = srcversion(driver.root, name)
        if now is None or now != state.modules.get(name):
            what = "is not loaded any more" if now is None else "is loaded as another build"
            raise VerifyError(f"the module {name} {what}", f"run modulus up {instance}")
    return state


def _put_back(driver: DriverPaths, state: RecordedState, reporter: Reporter) -> None:
    """Writes the generated files and the path of the firmware."""
    root = driver.root
    wrong = tuple(changed_files(root, state))
    for line in setup_drift(root, state):
        reporter.phase("install", f"put right: {line}")
    for path in wrong:
        with writing(below(root, path)):
            replace_file(below(root, path), state.files[path])
    if any(path.startswith(_LINKER) for path in wrong):
        # Somebody may have run ldconfig without the file.
        from modulus.host.generation.install import active_generation
        from modulus.host.generation.linker import update_linker

        generation = active_generation(driver)
        if generation:
            update_linker(driver, generation, reporter)
    if state.firmware is not None and firmware_path(root) not in (None, state.firmware):
        from modulus.host.modules.firmware import provide_firmware

        provide_firmware(driver, driver.generation(state.generation) / "firmware", reporter)


def _tell_gpus(root: Path, state: RecordedState, reporter: Reporter) -> None:
    """Says which GPUs came, went or changed their driver since the last time."""
    now = driven_gpus(root, state)
    for address in sorted(state.gpus.keys() - now.keys()):
        reporter.error(
            f"verify: GPU {address} is gone: it was unplugged, or has left the bus; see the "
            "kernel's log (journalctl -k -b)"
        )
    there = {address: driver for address, driver in state.gpus.items() if address in now}
    for line in gpu_drift(root, replace(state, gpus=there)):
        reporter.warn(line)


def _tell(findings: tuple[Finding, ...], reporter: Reporter) -> None:
    """Says what stays wrong; raises VerifyError where the driver cannot be used with it."""
    errors = [finding for finding in findings if finding.severity == "error"]
    for finding in findings:
        text = f"{finding.message}: {finding.cause}; {finding.fix}"
        if finding.severity != "error":
            reporter.warn(text)
        elif finding is not errors[0]:
            reporter.error(f"verify: {text}")
    if errors:
        raise VerifyError(f"{errors[0].message}: {errors[0].cause}", errors[0].fix)
