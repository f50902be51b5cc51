"""Remembers which generations of a driver worked: ``/var/lib/modulus/NAME/good.json``."""

from __future__ import annotations

import json
import time
from pathlib import Path

from modulus.core.generation.last_good import (
    Good,
    good_value,
    names_for,
    parse_good,
    with_newest,
)
from modulus.core.kernel.identity import KernelId
from modulus.host.files.driver_paths import GOOD, DriverPaths
from modulus.host.files.place import STATE, below, replace_file, writing
from modulus.host.files.record import read_record
from modulus.host.generation.install import Generation, find_generation
from modulus.host.report.clock import rfc3339


def record_good(driver: DriverPaths, generation: Generation) -> bool:
    """Records the just verified ``generation`` as the newest that worked; False if it is
    already. Raises ConfigError or BuildError where the record cannot be written."""
    path = driver.good
    before = read_record(path, parse_good) or ()
    of = generation.contents.identity
    newest = Good(generation.name, str(of.instance), of.kernel, rfc3339(time.time()))
    entries = with_newest(before, newest)
    if entries == before:
        return False
    with writing(path):
        return replace_file(path, json.dumps(good_value(entries), indent=2) + "\n")


def good_generations(driver: DriverPaths, kernel: KernelId) -> tuple[Generation, ...]:
    """The generations that worked on ``kernel`` and are in place, the newest first.

    Of their files only the manifest is read.
    """
    entries = read_record(driver.good, parse_good) or ()
    found = (find_generation(driver, which) for which in names_for(entries, kernel))
    return tuple(one for one in found if one and one.contents.identity.kernel == kernel)


def recorded_drivers(root: Path) -> tuple[str, ...]:
    """The drivers with a generation that worked, by name."""
    return tuple(sorted(path.parent.name for path in below(root, STATE).glob(f"*/{GOOD}")))
