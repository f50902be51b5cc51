"""The machine itself: what the other tests take for granted, with Modulus out of the way."""

from __future__ import annotations

import re

import pytest

from tests.support.vm.image import STORE, Image
from tests.support.vm.machine import HOST, Machine
from tests.support.vm.site import Site
from tests.support.vm.store import Store
from tests.vm.conftest import MakeMachine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.required("vm", "driver"),
    pytest.mark.full,
]

# A boot without it takes half the time.
NO_CLOUD_INIT = "cloud-init=disabled"


@pytest.fixture(scope="module")
def machine(make_machine: MakeMachine, store: Store) -> Machine:
    machine = make_machine(gpus=("t4-nouveau", "a100"), disks=[store.path])
    machine.start(kernel=NO_CLOUD_INIT)
    machine.guest.wait_for_unit("multi-user.target")
    return machine


def driver_in_use(machine: Machine, number: int) -> str:
    link = f"/sys/bus/pci/devices/{machine.address(number)}/driver"
    found = machine.guest.run("readlink", link, check=False).stdout.strip()
    return found.rpartition("/")[2]


def test_the_real_modules_load_in_place_of_nouveau(machine: Machine, image: Image) -> None:
    guest = machine.guest
    assert guest.run("uname", "-r").stdout.strip() == image.release
    # Its probe takes seconds, since no engine of the GPU answers.
    guest.run("udevadm", "settle")
    assert driver_in_use(machine, 0) == "nouveau"
    assert "card0" in guest.run("ls", "/dev/dri").stdout.split()
    guest.run("modprobe", "-r", "nouveau")
    guest.run("modprobe", "-a", "drm", "video", "wmi")
    for name in ("nvidia", "nvidia-uvm", "nvidia-modeset"):
        guest.run("insmod", f"{STORE}/modules/{image.release}/{name}.ko")
    assert [driver_in_use(machine, number) for number in (0, 1)] == ["nvidia", "nvidia"]
    for number in (0, 1):
        folder = f"/proc/driver/nvidia/gpus/{machine.address(number)}"
        assert f"Device Minor: \t {number}\n" in guest.read(f"{folder}/information")
    guest.run("nvidia-modprobe", "-c", "0", "-c", "1", "-c", "255", "-m")
    guest.run("nvidia-modprobe", "-u", "-c", "0")
    found = guest.run("sh", "-c", "stat -c '%n %Hr:%Lr %a' /dev/nvidia*").stdout.splitlines()
    assert "/dev/nvidia1 195:1 666" in found
    assert "/dev/nvidiactl 195:255 666" in found
    assert any(re.fullmatch(r"/dev/nvidia-uvm \d+:0 666", line) for line in found)
    opened = guest.run("dd", "if=/dev/nvidia1", "count=0", check=False)
    assert "Input/output error" in opened.stderr


def test_a_gpu_can_be_plugged_in(machine: Machine) -> None:
    machine.plug("a100")
    machine.guest.wait_for(lambda: driver_in_use(machine, 2), "the driver of the new GPU")
    assert driver_in_use(machine, 2) == "nvidia"


def test_the_network_cable_can_be_pulled(machine: Machine, site: Site) -> None:
    ask = ("curl", "-sSf", "--connect-timeout", "3", "-o", "/dev/null")
    package = f"{site.url}/{site.package.name}"
    assert package.startswith(f"http://{HOST}:")
    machine.guest.run(*ask, package)
    machine.set_network(False)
    assert machine.guest.run(*ask, package, check=False).status != 0
    machine.set_network(True)
    machine.guest.run(*ask, package)


def test_what_was_synced_outlives_a_power_cut_and_a_reboot(machine: Machine) -> None:
    machine.guest.write("/root/synced", "1")
    machine.guest.run("sync")
    machine.guest.write("/root/unsynced", "1")
    boot = machine.guest.read("/proc/sys/kernel/random/boot_id")
    machine.kill()
    machine.gpus = []
    machine.start(kernel=NO_CLOUD_INIT)
    assert machine.guest.read("/proc/sys/kernel/random/boot_id") != boot
    assert machine.guest.run("ls", "/root").stdout.split() == ["synced"]
    assert machine.guest.run("lspci", "-d", "10de:").stdout == ""
    machine.reboot(kernel=NO_CLOUD_INIT)
    assert machine.guest.read("/root/synced") == "1"

    def boots() -> int:
        return machine.journal.read_text("utf-8", "replace").count("Linux version ")

    # The agent may answer before the journal is sent out.
    machine.guest.wait_for(lambda: boots() >= 3, "the journal of the third boot")
    assert boots() == 3
