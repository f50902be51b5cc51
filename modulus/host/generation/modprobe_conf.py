"""The driver's file in /etc/modprobe.d: module options, and what udev must not load."""

from __future__ import annotations

from collections.abc import Iterable

from modulus.core.kernel.modprobe import MARK, TEMPLATE, Options, config_values
from modulus.host.files.atomic import fsync_dir
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import writing
from modulus.host.files.regular import read_bytes
from modulus.host.generation.rendered import render_file


def configure_modprobe(driver: DriverPaths, options: Options, blacklist: Iterable[str]) -> bool:
    """Writes the driver's file; False if it is there already.

    ``blacklist`` are the modules that udev must not load: the profile's rivals, the driver's
    own, and foreign ones in their place (``host.modules.foreign``). Raises ConfigError
    where ``/etc`` cannot be written.
    """
    values = config_values(driver.name, options, blacklist)
    return render_file(driver.modprobe_config, TEMPLATE, **values)


def unconfigure_modprobe(driver: DriverPaths) -> bool:
    """Removes the driver's file; False where there is none, or one that is not generated."""
    path = driver.modprobe_config
    try:
        ours = read_bytes(path).startswith(MARK.encode())
    except OSError:
        return False
    if ours:
        with writing(path):
            path.unlink()
            fsync_dir(path.parent)
    return ours
