"""A node that gets another kernel: the driver is there on it after the reboot, unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import packages
from tests.support.vm.guest import Guest
from tests.support.vm.image import Image
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import Store
from tests.vm.conftest import MakeMachine

pytestmark = [pytest.mark.integration, pytest.mark.required("vm", "driver")]

NO_CLOUD_INIT = "cloud-init=disabled"
HOME = "/opt/drivers/.nvidia"
MODULES = {"nvidia", "nvidia_uvm", "nvidia_modeset"}


@pytest.fixture(scope="module")
def newer(image: Image) -> str:
    if image.newer is None:
        pytest.skip("apt has only one kernel of this series")
    return image.newer


@pytest.fixture(scope="module")
def machine(
    make_machine: MakeMachine, installed: Path, store: Store, site: Site, newer: str
) -> Machine:
    """A node that is READY on its kernel, and has another one installed since."""
    package = packages.download(f"linux-image-{newer}")
    machine = make_machine(installed, disks=[store.path])
    machine.start(kernel=NO_CLOUD_INIT)
    guest, unit = machine.guest, f"modulus@{store.driver}.service"
    guest.run("systemctl", "enable", "--now", "--no-block", unit)
    assert guest.wait_for_unit(unit) == "active"
    site.mirror.serve("/linux-image.deb", package)
    guest.run("curl", "-sSf", "-o", "/root/linux-image.deb", f"{site.url}/linux-image.deb")
    guest.run("dpkg", "--install", "/root/linux-image.deb", timeout=600)
    return machine


def status(guest: Guest, *options: str) -> dict[str, Any]:
    done = guest.run("modulus", "status", "--json", *options)
    (state,) = json.loads(done.stdout)["instances"]
    assert isinstance(state, dict)
    return state


def test_status_says_whether_the_driver_will_be_there_after_a_reboot(
    machine: Machine, image: Image, newer: str
) -> None:
    running = {"release": image.release, "ready": True, "default_boot": False}
    other = {"release": newer, "ready": True, "default_boot": True}
    assert status(machine.guest)["kernels"] == [running, other]
    without_store = status(machine.guest, "--set", "stores=[]")["kernels"]
    assert without_store == [running, other | {"ready": False}]
    shown = machine.guest.run("modulus", "status").stdout
    assert image.release in shown and newer in shown


def test_after_the_reboot_the_driver_is_there_for_the_new_kernel(
    machine: Machine, store: Store, image: Image, newer: str
) -> None:
    old = status(machine.guest)["generation"]
    machine.reboot(kernel=NO_CLOUD_INIT)
    guest, unit = machine.guest, f"modulus@{store.driver}.service"
    assert guest.run("uname", "-r").stdout.strip() == newer
    assert guest.wait_for_unit(unit) == "active"
    loaded = {line.split()[0] for line in guest.read("/proc/modules").splitlines()}
    assert loaded >= MODULES and "nouveau" not in loaded
    new = status(guest)["generation"]
    assert new != old and newer in new
    assert sorted(guest.run("ls", "-A", HOME).stdout.split()) == sorted([old, new])
    assert guest.run("readlink", "/opt/drivers/nvidia").stdout == f".nvidia/{new}\n"
    for generation, release in ((old, image.release), (new, newer)):
        folder = f"{HOME}/{generation}/lib/modules"
        assert guest.run("ls", folder).stdout.split() == [release]
    said = guest.run("journalctl", "-b", "-u", unit, "-o", "cat").stdout
    assert f"hit: {store.driver} for {newer} (" in said
    assert guest.run("journalctl", "-b", "-q", "MODULUS_PHASE=build").stdout == ""
    verified = guest.run("modulus", "verify", "--json").stdout
    assert json.loads(verified)["ok"]
