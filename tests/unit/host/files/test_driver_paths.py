from __future__ import annotations

from pathlib import Path

import pytest

from modulus.errors import ConfigError
from modulus.host.files.driver_paths import DriverPaths

PLACES = {
    "link": "/opt/drivers/gpu",
    "generations": "/opt/drivers/.gpu",
    "records": "/var/lib/modulus/gpu",
    "selected": "/var/lib/modulus/gpu/selected",
    "good": "/var/lib/modulus/gpu/good.json",
    "firmware": "/var/lib/modulus/gpu/firmware.json",
    "initramfs": "/var/lib/modulus/gpu/initramfs.json",
    "disproofs": "/var/lib/modulus/disproved/gpu.json",
    "run": "/run/modulus/gpu",
    "recorded_state": "/run/modulus/gpu/wanted.json",
    "used": "/run/modulus/gpu/used",
    "module_root": "/run/modulus/gpu/modules",
    "linker_config": "/etc/ld.so.conf.d/modulus-gpu.conf",
    "modprobe_config": "/etc/modprobe.d/modulus-gpu.conf",
}
"""Other programs, older Modulus and people know these."""


def properties(of: type) -> set[str]:
    return {name for name, value in vars(of).items() if isinstance(value, property)}


def test_where_all_of_a_driver_lies(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "gpu")
    assert properties(DriverPaths) == {*PLACES, "inside"}
    found = {name: getattr(driver, name) for name in PLACES}
    assert found == {name: tmp_path / path[1:] for name, path in PLACES.items()}
    assert driver.generation("1.0-x") == tmp_path / "opt/drivers/.gpu/1.0-x"
    # Nothing is made by asking.
    assert list(tmp_path.iterdir()) == []


def test_the_same_from_inside_the_root() -> None:
    names = DriverPaths(Path("/elsewhere"), "gpu").inside
    more = {"libraries": "/opt/drivers/gpu/lib", "config": "modulus-gpu.conf"}
    known = PLACES | more
    found = {name: getattr(names, name) for name in properties(type(names))}
    assert found == {name: known[name] for name in found}
    assert found.keys() >= more.keys()


@pytest.mark.parametrize(("name", "path"), PLACES.items())
def test_a_link_above_is_followed_inside_the_root(tmp_path: Path, name: str, path: str) -> None:
    driver = DriverPaths(tmp_path, "gpu")
    folder = (tmp_path / path[1:]).parent
    folder.parent.mkdir(parents=True)
    folder.symlink_to("/elsewhere")
    assert getattr(driver, name) == tmp_path / "elsewhere" / Path(path).name
    # Anew each time.
    folder.unlink()
    assert getattr(driver, name) == tmp_path / path[1:]
    folder.symlink_to(folder.name)
    with pytest.raises(ConfigError, match="Too many levels of symbolic links"):
        getattr(driver, name)


def test_the_link_to_the_active_generation_is_not_followed(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "gpu")
    driver.link.parent.mkdir(parents=True)
    driver.link.symlink_to(".gpu/1.0-x")
    assert driver.link == tmp_path / "opt/drivers/gpu"
