"""A node's GPUs: none, one that comes later, several, unsupported, passed through, and those
that nouveau has, which is in the node's initramfs.

One machine and three boots; the tests go on from each other, in the order they are in.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import packages
from tests.support.vm.guest import Done, Guest
from tests.support.vm.image import STORE, Image, vm_folder
from tests.support.vm.installed import make_installed
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import Store
from tests.vm.conftest import MakeMachine

pytestmark = [pytest.mark.integration, pytest.mark.required("vm", "driver")]

NO_CLOUD_INIT = "cloud-init=disabled"
MODULES = {"nvidia", "nvidia_uvm", "nvidia_modeset"}
CARD = "/dev/dri/card0"
PCI = "/sys/bus/pci"


@dataclass
class Node:
    """The machine, and what a person would do and see there."""

    machine: Machine
    instance: str
    release: str

    @property
    def guest(self) -> Guest:
        return self.machine.guest

    @property
    def unit(self) -> str:
        return f"modulus@{self.instance}.service"

    def modulus(self, *words: str) -> Done:
        return self.guest.run("modulus", *words, check=False)

    def configure(self, **settings: Any) -> None:
        self.guest.write("/etc/modulus/modulus.d/test.yaml", yaml.safe_dump(settings))

    def start(self) -> bool:
        done = self.guest.run("systemctl", "start", self.unit, check=False)
        return done.status == 0

    def stop(self) -> None:
        self.guest.run("systemctl", "stop", self.unit)

    def shown(self) -> dict[str, str]:
        names = ("ActiveState", "ExecMainStatus", "NRestarts", "StatusText")
        return self.guest.unit(self.unit, *names)

    def wait_ready(self) -> str:
        def ready() -> str:
            shown = self.shown()
            text = shown["StatusText"]
            return text if shown["ActiveState"] == "active" and text[:6] == "ready:" else ""

        return self.guest.wait_for(ready, f"{self.unit} to be ready")

    def journal(self, *words: str) -> str:
        """What the unit has said in this boot, without times."""
        return self.guest.journal("--output=cat", f"--unit={self.unit}", *words)

    def loaded(self) -> set[str]:
        lines = self.guest.read("/proc/modules").splitlines()
        return {line.split()[0] for line in lines} & {*MODULES, "nouveau"}

    def driver(self, number: int) -> str:
        link = f"{PCI}/devices/{self.machine.address(number)}/driver"
        return Path(self.guest.run("readlink", link, check=False).stdout.strip()).name

    def unload(self) -> None:
        self.guest.run("rmmod", "nvidia_modeset", "nvidia_uvm", "nvidia")

    def gpu_nodes(self) -> set[str]:
        """The GPUs' device nodes with their numbers."""
        script = "stat -c '%n %Hr:%Lr' /dev/nvidia[0-9]*"
        return set(self.guest.run("sh", "-c", script, check=False).stdout.splitlines())

    def status(self) -> dict[str, Any]:
        (state,) = json.loads(self.modulus("status", "--json").stdout)["instances"]
        found: dict[str, Any] = state
        return found

    def listed_in_initramfs(self) -> str:
        image = f"/boot/initrd.img-{self.release}"
        return self.guest.run("lsinitramfs", image).stdout


@pytest.fixture(scope="module")
def node(make_machine: MakeMachine, image: Image, site: Site, store: Store) -> Node:
    with tempfile.TemporaryDirectory(dir=vm_folder()) as folder:
        disk = Path(folder, "early.img")
        make_installed(disk, image, site, early=["nouveau"])
        machine = make_machine(disk, gpus=(), disks=[store.path])
    machine.start(kernel=NO_CLOUD_INIT)
    machine.guest.wait_for_unit("multi-user.target")
    return Node(machine, store.driver, image.release)


def test_without_a_gpu_the_unit_fails_for_good_and_says_why(node: Node) -> None:
    assert not node.start()
    shown = node.shown()
    assert (shown["ActiveState"], shown["ExecMainStatus"], shown["NRestarts"]) == (
        "failed",
        "18",
        "0",
    )
    errors = node.journal("--priority=err")
    assert "modulus: error: no GPU for nvidia on the PCI bus" in errors
    assert "modulus: hint: look at lspci -nn" in errors
    told = node.guest.run("systemctl", "status", "--full", node.unit, check=False).stdout
    assert 'Status: "failed: no GPU for nvidia on the PCI bus (next: look at lspci' in told
    assert node.status()["error"]["code"] == 18
    assert node.loaded() == set()
    assert node.guest.run("ls", "/opt/drivers", check=False).stdout == ""


def test_build_only_is_ready_once_built_and_installs_nothing(node: Node) -> None:
    node.configure(on_no_gpu="build-only")
    assert node.start()
    shown = node.shown()
    assert shown["ActiveState"] == "active"
    assert shown["StatusText"].startswith("ready: built")
    assert "hit: " in node.journal()
    assert node.loaded() == set()
    assert node.guest.run("ls", "/opt/drivers", check=False).stdout == ""
    node.stop()


def test_a_gpu_that_is_plugged_in_later_is_waited_for(node: Node) -> None:
    # The initramfs is for later.
    node.configure(on_no_gpu="wait", initramfs="never")
    assert node.start()
    assert node.shown()["StatusText"] == "waiting for a GPU"
    assert node.status()["phase"] == "wait"
    assert node.loaded() == set()
    node.machine.plug("t4-nouveau")
    node.wait_ready()
    assert f"the kernel says: add {node.machine.address(0)} (10de:1eb8)" in node.journal()
    assert node.driver(0) == "nvidia"
    assert node.gpu_nodes() == {"/dev/nvidia0 195:0"}
    # udev was not to load it for the GPU that came.
    assert node.loaded() == MODULES
    assert "nouveau" not in node.guest.run("dmesg").stdout
    (finding,) = node.status()["findings"]
    assert finding["id"] == "rival-in-initramfs"
    assert finding["cause"] == "initramfs: never keeps Modulus from rebuilding it"
    node.stop()


def test_nouveau_in_use_is_left_alone_unless_forced(node: Node) -> None:
    node.unload()
    node.guest.run("modprobe", "nouveau")
    node.guest.run("udevadm", "settle")
    assert node.driver(0) == "nouveau"
    user = node.guest.start("tail", "--follow", CARD)
    node.guest.wait_for(
        lambda: node.guest.run("ls", "-l", f"/proc/{user}/fd").stdout.partition(CARD)[1],
        f"{CARD} to be open",
    )
    refused = node.modulus("up", node.instance)
    assert refused.status == 17
    assert f"nouveau has GPU {node.machine.address(0)}: reboot needed" in refused.stderr
    assert f"in use by process {user} (tail" in refused.stderr
    assert "rivals_unbind: true" in refused.stderr
    assert (node.driver(0), node.loaded()) == ("nouveau", {"nouveau"})
    forced = node.modulus("up", node.instance, "--set", "rivals_unbind=true")
    assert forced.status == 0
    assert node.driver(0) == "nvidia"
    node.guest.run("kill", str(user))


def test_an_unsupported_gpu_fails_for_good_and_names_the_branch(node: Node) -> None:
    assert node.modulus("down", node.instance).status == 0
    node.machine.plug("kepler")
    node.guest.run("udevadm", "settle")
    node.guest.write(f"{PCI}/devices/{node.machine.address(0)}/remove", "1")
    assert not node.start()
    shown = node.shown()
    assert (shown["ActiveState"], shown["ExecMainStatus"], shown["NRestarts"]) == (
        "failed",
        "15",
        "0",
    )
    errors = node.journal("--priority=err")
    assert f"GPU {node.machine.address(1)} (10de:1180" in errors
    assert "modulus: hint: use a driver of the 470" in errors


def test_beside_one_that_is_supported_it_is_left_out(node: Node) -> None:
    node.guest.write(f"{PCI}/rescan", "1")
    node.guest.run("udevadm", "settle")
    refused = node.modulus("up", node.instance, "--set", "require_all_gpus=true")
    assert refused.status == 15
    assert f"GPU {node.machine.address(1)} (10de:1180" in refused.stderr
    assert node.loaded() <= {"nouveau"}
    done = node.modulus("up", node.instance)
    assert done.status == 0
    assert f"warning: GPU {node.machine.address(1)} (10de:1180" in done.stderr
    assert (node.driver(0), node.driver(1)) == ("nvidia", "")
    assert node.gpu_nodes() == {"/dev/nvidia0 195:0"}


def test_a_gpu_that_is_passed_through_does_not_count(node: Node) -> None:
    kepler = node.machine.address(1)
    node.guest.run("modprobe", "pci-stub")
    node.guest.write(f"{PCI}/devices/{kepler}/driver_override", "pci-stub")
    node.guest.write(f"{PCI}/drivers_probe", kepler)
    assert node.driver(1) == "pci-stub"
    done = node.modulus("up", node.instance)
    assert done.status == 0
    assert "plan: 1 GPU (" in done.stderr
    assert "), 1 passed through" in done.stderr
    assert (node.driver(0), node.driver(1)) == ("nvidia", "pci-stub")
    assert node.gpu_nodes() == {"/dev/nvidia0 195:0"}


def test_nouveau_of_the_initramfs_gives_way_and_is_taken_out_of_it(node: Node) -> None:
    assert "/nouveau.ko" in node.listed_in_initramfs()
    node.configure()
    node.guest.run("systemctl", "enable", node.unit)
    node.machine.gpus = ["t4-nouveau", "a100"]
    node.machine.reboot(kernel=NO_CLOUD_INIT)
    node.wait_ready()
    messages = node.guest.run("dmesg").stdout
    bound = messages.index(f"nouveau {node.machine.address(0)}: NVIDIA TU104")
    assert bound < messages.index("EXT4-fs (vda): mounted")
    told = node.journal()
    assert f"load: taking GPU {node.machine.address(0)} from nouveau" in told
    assert f"load: /boot/initrd.img-{node.release} is rebuilt" in told
    assert "etc/modprobe.d/modulus-nvidia.conf" in node.listed_in_initramfs()
    assert node.loaded() == MODULES


def test_each_of_two_gpus_has_the_node_that_the_driver_numbers(node: Node) -> None:
    first, second = node.machine.address(0), node.machine.address(1)
    assert f"plan: 2 GPUs ({first} 10de:1eb8, {second} 10de:20b0)" in node.journal()
    wanted = set()
    for address in (first, second):
        folder = f"/proc/driver/nvidia/gpus/{address}"
        text = node.guest.read(f"{folder}/information")
        (minor,) = [line for line in text.splitlines() if line.startswith("Device Minor:")]
        number = minor.split()[-1]
        wanted.add(f"/dev/nvidia{number} 195:{number}")
    assert wanted == {"/dev/nvidia0 195:0", "/dev/nvidia1 195:1"}
    assert node.gpu_nodes() == wanted
    assert node.modulus("verify").status == 0
    state = node.status()
    assert (state["phase"], state["active"], state["findings"]) == ("watch", True, [])


def test_the_next_boot_is_without_nouveau_and_rebuilds_nothing(node: Node) -> None:
    image = f"/boot/initrd.img-{node.release}"
    before = node.guest.run("stat", "-c", "%Y %s %i", image).stdout
    node.machine.reboot(kernel=NO_CLOUD_INIT)
    node.wait_ready()
    assert "nouveau" not in node.guest.run("dmesg").stdout
    assert node.loaded() == MODULES
    assert (node.driver(0), node.driver(1)) == ("nvidia", "nvidia")
    assert node.guest.run("stat", "-c", "%Y %s %i", image).stdout == before
    assert "initrd" not in node.journal()


def test_the_distribution_s_driver_and_a_read_only_usr_are_no_obstacle(
    node: Node, image: Image, tmp_path: Path
) -> None:
    """With the text that Debian's package has, and a module such as its DKMS makes."""
    deb = packages.download("nvidia-kernel-support", image.codename)
    package = packages.unpack(deb, tmp_path)
    config = (package / "etc/nvidia/current/nvidia-modprobe.conf").read_text()
    assert "install nvidia modprobe -i nvidia-current" in config
    node.guest.write("/etc/modprobe.d/nvidia.conf", config)
    foreign = f"/lib/modules/{node.release}/updates/dkms"
    ours = f"{STORE}/modules/{node.release}/nvidia.ko"
    node.guest.run("mkdir", "--parents", foreign)
    node.guest.run("cp", ours, f"{foreign}/nvidia-current.ko")
    node.guest.run("mount", "--bind", "/usr", "/usr")
    node.guest.run("mount", "-o", "remount,bind,ro", "/usr")
    assert node.guest.run("touch", "/usr/x", check=False).status != 0
    node.stop()
    node.unload()
    hijacked = node.guest.run("modprobe", "--dry-run", "--verbose", "nvidia", check=False)
    assert "modprobe -i nvidia-current" in hijacked.stdout
    assert node.start()
    assert node.loaded() == MODULES
    named = f"{foreign} holds another nvidia: nvidia-current.ko"
    assert named in node.journal()
    checked = node.modulus("verify")
    assert checked.status == 0
    assert f"warning: {named}" in checked.stdout
