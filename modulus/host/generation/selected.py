"""Which instance of a driver is wanted, and whose agent stands by since this boot."""

from __future__ import annotations

from pathlib import Path

from modulus.core.instance import Instance, parse_instance
from modulus.errors import ConfigError, UsageError
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import RUN, below, make_dirs, writing
from modulus.host.files.regular import read_text

_MOST = 4096
_STANDBY = f"{RUN}/standby"


def read_selected(driver: DriverPaths) -> Instance | None:
    """The wanted instance of ``driver``; None where none was chosen."""
    try:
        text = read_text(driver.selected, _MOST, follow=False).strip()
        instance = parse_instance(text, "")
    except (OSError, ConfigError, UsageError):
        return None
    return instance if instance.profile == driver.name else None


def stands_by(root: Path, instance: Instance) -> bool:
    """Whether the agent of ``instance`` was in standby when it last ended in this boot."""
    return _marker(root, instance).exists()


def mark_standby(root: Path, instance: Instance, standby: bool) -> None:
    """Records for the agent's next start whether it is in ``standby``."""
    path = _marker(root, instance)
    with writing(path):
        if standby:
            make_dirs(path.parent)
            path.touch()
        else:
            path.unlink(missing_ok=True)


def _marker(root: Path, instance: Instance) -> Path:
    return below(root, _STANDBY) / str(instance)
