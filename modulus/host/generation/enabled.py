"""Which instances a system has and is to have: what units, records and generations say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modulus.core.instance import Instance, parse_instance
from modulus.core.status.boot_hold import unit_name
from modulus.errors import UsageError
from modulus.host.files.driver_paths import SELECTED, DriverPaths
from modulus.host.files.place import DRIVERS, STATE, below
from modulus.host.generation.install import Generation, active_generation
from modulus.host.generation.selected import read_selected

_UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")


def enabled_instances(root: Path) -> tuple[Instance, ...]:
    """The instances that are enabled, by name.

    ``systemctl enable`` makes links in a target's ``.wants`` folder, which this reads: systemd
    lists only the units it has loaded, and none for a root that is not running.
    """
    pattern = unit_name("*")
    found = {
        link.name.removeprefix("modulus@").removesuffix(".service")
        for folder in _UNITS
        for kind in ("wants", "requires")
        for link in below(root, folder).glob(f"*.{kind}/{pattern}")
    }
    return tuple(sorted(_instances(found)))


def selected_instance(driver: DriverPaths) -> Instance | None:
    """The wanted instance of ``driver``; None where none was chosen."""
    return read_selected(driver)


def selected_instances(root: Path) -> tuple[Instance, ...]:
    """The wanted instance of every driver that has one, by name."""
    names = sorted(path.parent.name for path in below(root, STATE).glob(f"*/{SELECTED}"))
    found = (selected_instance(DriverPaths(root, name)) for name in names)
    return tuple(instance for instance in found if instance)


def active_generations(root: Path) -> tuple[Generation, ...]:
    """The active generation of every driver that has one, by name."""
    names = sorted(link.name for link in below(root, DRIVERS).glob("[!.]*"))
    found = (active_generation(DriverPaths(root, name)) for name in names)
    return tuple(generation for generation in found if generation)


def _instances(names: set[str]) -> Iterator[Instance]:
    for name in names:
        try:
            yield parse_instance(name, "")
        except UsageError:
            continue
