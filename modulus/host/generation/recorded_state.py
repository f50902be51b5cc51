"""The recorded state of a driver, ``/run/modulus/NAME/wanted.json``, and whether it holds.

Quick repairs and the resident agent go by it alone: they read no profile and no manifest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from modulus.core.devices.changes import compare, link_path, link_target
from modulus.core.devices.proc_devices import parse_chardevs
from modulus.core.devices.wanted import DEV
from modulus.core.generation.recorded_state import (
    RecordedState,
    parse_recorded_state,
    recorded_state_value,
)
from modulus.core.pci import devices_of
from modulus.host.devices.facts import in_dev, look
from modulus.host.files import sysfs
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import below, replace_file, writing
from modulus.host.files.record import read_record
from modulus.host.files.regular import read_bytes
from modulus.host.kernel.firmware_path import firmware_path
from modulus.host.kernel.probe import pci_devices


def write_recorded_state(driver: DriverPaths, state: RecordedState) -> bool:
    """Records the state of ``driver`` that is to stay; False if it is recorded already."""
    path = driver.recorded_state
    with writing(path):
        text = json.dumps(recorded_state_value(state), indent=1) + "\n"
        return replace_file(path, text, lasting=False)


def read_recorded_state(driver: DriverPaths) -> RecordedState | None:
    """The recorded state of ``driver``; None without one."""
    return read_record(driver.recorded_state, parse_recorded_state)


def drift(root: Path, state: RecordedState) -> tuple[str, ...]:
    """All that differs from ``state``, a line each."""
    return (
        *module_drift(root, state),
        *node_drift(root, state),
        *setup_drift(root, state),
        *gpu_drift(root, state),
    )


def node_drift(root: Path, state: RecordedState) -> tuple[str, ...]:
    """Device nodes, and links to them, that are missing or wrong."""
    dev = below(root, DEV)
    managed = tuple(node for node in state.nodes if node.managed)
    seen = {}
    for node in managed:
        try:
            seen[node.path] = look(os.lstat(in_dev(dev, node.path)))
        except (FileNotFoundError, NotADirectoryError):
            continue
    wrong = [
        f"{change.path} is {f'wrong: {change.what}' if change.what else change.state}"
        for change in compare(managed, seen)
        if change.state != "right"
    ]
    for node in managed:
        path = link_path(*node.number)
        try:
            leads = os.readlink(in_dev(dev, path))
        except OSError:
            wrong.append(f"{path} is missing")
            continue
        if leads != link_target(node.path):
            wrong.append(f"{path} leads to {leads}")
    return tuple(wrong)


def module_drift(root: Path, state: RecordedState) -> tuple[str, ...]:
    """Modules that were loaded, unloaded or replaced, and device numbers that changed."""
    wrong = []
    for name, recorded in state.modules.items():
        now = srcversion(root, name)
        if now is None and recorded is not None:
            wrong.append(f"the module {name} is not loaded any more")
        elif now is not None and recorded is None:
            wrong.append(f"the module {name} was loaded")
        elif now != recorded:
            wrong.append(f"another build of the module {name} is loaded")
    majors = driver_majors(root, state)
    wrong += [
        f"the device number of {name} is {majors.get(name, 'gone')} instead of "
        f"{state.majors.get(name, 'none')}"
        for name in sorted(state.major_names)
        if majors.get(name) != state.majors.get(name)
    ]
    return tuple(wrong)


def setup_drift(root: Path, state: RecordedState) -> tuple[str, ...]:
    """Generated files that are missing or changed, and the path of the firmware."""
    wrong = [
        f"{path} is {'changed' if below(root, path).is_file() else 'missing'}"
        for path in changed_files(root, state)
    ]
    if state.firmware is not None:
        now = firmware_path(root)
        if now not in (None, state.firmware):
            wrong.append(f"firmware_class.path is {now or 'empty'} instead of {state.firmware}")
    return tuple(wrong)


def gpu_drift(root: Path, state: RecordedState) -> tuple[str, ...]:
    """GPUs that came or went, or have another driver."""
    now, wrong = driven_gpus(root, state), []
    for address in sorted({*now, *state.gpus}):
        before = state.gpus.get(address)
        if address not in now:
            wrong.append(f"GPU {address} is gone")
        elif address not in state.gpus:
            wrong.append(f"GPU {address} is new, its driver is {now[address] or 'none'}")
        elif now[address] != before:
            wrong.append(
                f"GPU {address} has the driver {now[address] or 'none'} instead of "
                f"{before or 'none'}"
            )
    return tuple(wrong)


def changed_files(root: Path, state: RecordedState) -> Iterator[str]:
    """The generated files that are missing or hold something else."""
    for path, text in state.files.items():
        try:
            if read_bytes(below(root, path)) == text.encode():
                continue
        except OSError:
            pass
        yield path


def srcversion(root: Path, name: str) -> str | None:
    """The live module's srcversion, "" where the kernel shows none; None without it."""
    folder = root / "sys/module" / name
    if (sysfs.text(folder / "initstate") or "live") != "live" or not folder.is_dir():
        return None
    return sysfs.text(folder / "srcversion") or ""


def driver_majors(root: Path, state: RecordedState) -> dict[str, int]:
    """The majors that the kernel has for the names in the rules, by name."""
    devices = parse_chardevs(sysfs.text(root / "proc/devices") or "")
    found = ((name, devices.major([name])) for name in sorted(state.major_names))
    return {name: major for name, major in found if major is not None}


def driven_gpus(root: Path, state: RecordedState) -> dict[str, str | None]:
    """The drivers, by address, of the devices that ``state.pci`` describes."""
    if not state.pci:
        return {}
    return {
        gpu.address: sysfs.link_name(root / "sys/bus/pci/devices" / gpu.address / "driver")
        for gpu in devices_of(state.pci, pci_devices(root))
    }
