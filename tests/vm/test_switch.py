"""Two versions of the real driver side by side: from one to the other and back, and what can
come in between: a module that the kernel refuses, SIGKILL at each step, a program that uses
the driver, a reboot.

One machine. The tests go on from each other, in the order they are in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.vm.guest import Done, Guest
from tests.support.vm.image import STORE
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import SECOND_LABEL, Store
from tests.vm.conftest import MakeMachine

pytestmark = [pytest.mark.integration, pytest.mark.required("vm", "driver")]

NO_CLOUD_INIT = "cloud-init=disabled"
SETTINGS = "/etc/modulus/modulus.yaml"
CACHE = "/var/cache/modulus"
SECOND = "/mnt/second"
GROUPS = "/sys/fs/cgroup/system.slice/system-modulus.slice"
MODULES = ("nvidia", "nvidia_uvm", "nvidia_modeset")
NODES = {f"/dev/{name}" for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-modeset")}

# Makes a build in a store one that was made for other symbols than this kernel has, as where a
# distribution changed them and not the release: the file is what the manifest says, the release
# fits, and only the kernel itself can tell, and refuses nvidia.ko. Of the entry in a read-only
# store, into the node's own cache, which is looked into first.
SPOIL = r"""
import hashlib, json, pathlib, shutil, sys
entry, cache = map(pathlib.Path, sys.argv[1:])
copy = cache / entry.relative_to(entry.parents[2])
shutil.copytree(entry, copy)
modules = entry.parents[2] / "modules" / entry.parent.name
# As older versions of Modulus stored it.
shutil.copytree(modules, copy, dirs_exist_ok=True)
module = copy / "nvidia.ko"
data = bytearray(module.read_bytes())
# struct modversion_info of the kernel: a checksum in 8 bytes, a name in 56.
data[data.index(b"module_layout".ljust(56, b"\0")) - 8] ^= 0xFF
module.write_bytes(data)
manifest = json.loads((copy / "manifest.json").read_text())
manifest["schema"] = 1
for file in manifest["files"]:
    if file["path"] == module.name:
        file["sha256"] = hashlib.sha256(data).hexdigest()
(copy / "manifest.json").write_text(json.dumps(manifest))
"""

# Kills all processes of a unit, at once, when it says something; what it said before does not
# count. From inside, since the steps of a switch take a fraction of a second.
KILL = r"""
journalctl --follow --lines=0 --output=cat --unit="$1" | {
    touch /run/watching
    grep -m1 -F -- "$2" && echo 1 >"$3/cgroup.kill"
}
rm /run/watching
"""

# The same, as soon as modprobe is at nvidia.ko.
KILL_AT_LOAD = r"""
touch /run/watching
until pgrep -f '/modprobe .* nvidia$'; do :; done
echo 1 >"$1/cgroup.kill"
"""


@dataclass(frozen=True)
class Node:
    """The machine; ``old`` and ``new`` are the instances."""

    machine: Machine
    old: str
    new: str

    @property
    def guest(self) -> Guest:
        return self.machine.guest

    def shell(self, script: str) -> str:
        return self.guest.run("sh", "-c", script).stdout

    def loaded(self) -> dict[str, str]:
        """The driver's modules that are loaded, with their versions."""
        script = 'cd /sys/module; for m in nvidia*; do echo "$m $(cat "$m/version")"; done'
        pairs = (line.partition(" ") for line in self.shell(script).splitlines())
        return {name: version for name, _, version in pairs}

    def selected(self) -> str:
        return self.guest.read("/var/lib/modulus/nvidia/selected").strip()

    def selected_first(self) -> tuple[str, str]:
        """The instance that is selected, and the other one."""
        return (self.new, self.old) if self.selected() == self.new else (self.old, self.new)

    def status(self, instance: str) -> dict[str, Any]:
        shown = self.guest.run("modulus", "status", instance, "--json").stdout
        (state,) = json.loads(shown)["instances"]
        assert isinstance(state, dict)
        return state

    def start(self, instance: str) -> Done:
        """Has an instance selected and brought up; its unit may run, in standby."""
        self.guest.run("systemctl", "stop", unit(instance))
        return self.guest.run("systemctl", "start", unit(instance), check=False)

    def stands_by(self, instance: str, selected: str) -> None:
        """Waits until the unit does."""
        self.shows(instance, f"standby: {selected} is selected")

    def shows(self, instance: str, text: str) -> dict[str, str]:
        """Waits until a unit is active, and its status text begins like this."""

        def question() -> dict[str, str]:
            found = self.guest.unit(unit(instance), "ActiveState", "StatusText")
            fits = found["ActiveState"] == "active" and found["StatusText"].startswith(text)
            return found if fits else {}

        return self.guest.wait_for(question, f"{instance} to be {text}")

    def works(self, instance: str) -> None:
        """Asserts that this driver is the one at work, in all its parts, and no other."""
        version = instance.partition("-")[2]
        assert self.loaded() == dict.fromkeys(MODULES, version)
        assert f"  {version}  " in self.guest.read("/proc/driver/nvidia/version")
        generation = self.guest.run("readlink", "/opt/drivers/nvidia").stdout.strip()
        assert generation.startswith(f".nvidia/{version}-")
        firmware = self.guest.read("/sys/module/firmware_class/parameters/path").strip()
        assert firmware == f"/opt/drivers/{generation}/firmware"
        known = "ldconfig -p | sed -n 's|.* => \\(/opt/drivers/.*\\)|\\1|p' | xargs readlink -f"
        libraries = self.shell(known).split()
        assert libraries
        assert all(each.endswith(f".so.{version}") for each in libraries), libraries
        assert set(self.shell("ls /dev/nvidia*").split()) >= NODES
        self.guest.run("sh", "-c", ": </dev/nvidiactl; : </dev/nvidia-uvm")
        assert self.selected() == instance
        verified = json.loads(self.guest.run("modulus", "verify", "--json").stdout)
        assert verified["ok"], verified


def unit(instance: str) -> str:
    return f"modulus@{instance}.service"


@pytest.fixture(scope="module")
def node(
    make_machine: MakeMachine, installed: Path, site: Site, store: Store, second: Store
) -> Node:
    site.mirror.serve(f"/{second.run.name}", second.run)
    site.mirror.serve_checksum(f"/{second.run.name}")
    machine = make_machine(installed, disks=[store.path, second.path])
    machine.start(kernel=NO_CLOUD_INIT)
    guest = machine.guest
    guest.wait_for_unit("multi-user.target")
    mount = f"LABEL={SECOND_LABEL} {SECOND} ext4 ro 0 0"
    guest.run("sh", "-c", f"echo '{mount}' >>/etc/fstab; mkdir {SECOND} && mount {SECOND}")
    # Of the userspace as little as can be: all of it is copied and hashed more than once.
    settings = site.settings(stores=[STORE, SECOND], components=["utility"])
    guest.write(SETTINGS, yaml.safe_dump(settings))
    return Node(machine, store.driver, second.driver)


def test_an_explicit_start_switches_and_what_was_active_stands_by(node: Node) -> None:
    guest = node.guest
    guest.run("systemctl", "enable", "--now", unit(node.old))
    node.works(node.old)
    guest.run("systemctl", "start", unit(node.new))
    node.works(node.new)
    node.shows(node.new, "ready: ")
    node.stands_by(node.old, node.new)
    assert (node.status(node.new)["active"], node.status(node.old)["active"]) == (True, False)
    # All that can fail slowly comes before anything is unloaded.
    said = guest.said(unit(node.new))
    assert said.index("install: ") < said.index("load: unloading nvidia_uvm")
    assert f"plan: {node.old} is loaded, to be replaced by {node.new}" in said


def test_rollback_goes_back_to_what_worked_before(node: Node) -> None:
    node.guest.run("modulus", "rollback")
    node.works(node.old)
    node.shows(node.old, "ready: ")
    node.stands_by(node.new, node.old)


def test_what_the_kernel_refuses_is_replaced_by_what_worked(node: Node) -> None:
    guest = node.guest
    entry = node.shell(f"echo {SECOND}/builds/*/*").strip()
    guest.run("python3", "-c", SPOIL, entry, CACHE)
    assert node.start(node.new).status != 0
    found = guest.unit(unit(node.new), "ActiveState", "ExecMainStatus", "NRestarts")
    assert found == {"ActiveState": "failed", "ExecMainStatus": "21", "NRestarts": "0"}
    said = guest.said(unit(node.new))
    assert said.index("load: unloading nvidia\n") < said.index(f"{node.old} is back, loaded")
    assert f"modulus: error: {node.new} does not work: nvidia" in said
    assert guest.kernel_said("nvidia: disagrees about version of symbol module_layout")
    node.works(node.old)
    node.shows(node.old, "ready: ")
    guest.run("rm", "-r", entry.replace(SECOND, CACHE))


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("load: unloading nvidia_modeset", marks=pytest.mark.full),
        "load: nvidia-uvm ",
        pytest.param("verify: ", marks=pytest.mark.full),
    ],
)
def test_a_switch_that_is_killed_anywhere_ends_with_one_whole_driver(
    node: Node, step: str
) -> None:
    guest = node.guest
    before, after = node.selected_first()
    # Its last start may have failed: not what is looked at here.
    guest.run("systemctl", "stop", unit(after))
    words = (unit(after), step, f"{GROUPS}/{unit(after)}")
    watching = guest.start("sh", "-c", KILL, "sh", *words)
    guest.wait_for(lambda: running(guest, watching, "/run/watching"), "the watch", pause=0.1)
    guest.run("systemctl", "start", "--no-block", unit(after))
    guest.wait_for(lambda: restarts(guest, unit(after)), "the kill and a new start")
    assert not running(guest, watching)
    node.shows(after, "ready: ")
    node.works(after)
    node.stands_by(before, after)
    assert restarts(guest, unit(after)) == 1


def test_a_load_goes_on_when_its_unit_is_killed(node: Node) -> None:
    # A module whose start is cut short may hang in the kernel, and the node until its reboot.
    guest = node.guest
    before, after = node.selected_first()
    guest.run("systemctl", "stop", unit(after))
    watching = guest.start("sh", "-c", KILL_AT_LOAD, "sh", f"{GROUPS}/{unit(after)}")
    guest.wait_for(lambda: running(guest, watching, "/run/watching"), "the watch", pause=0.1)
    guest.run("systemctl", "start", "--no-block", unit(after))
    guest.wait_for(lambda: not running(guest, watching), "the kill", pause=0.1)
    live = "cat /sys/module/nvidia/initstate || :"
    guest.wait_for(lambda: node.shell(live) == "live\n", "nvidia, loaded", 8, pause=0.1)
    assert restarts(guest, unit(after)) == 0
    guest.run("rm", "/run/watching")
    guest.wait_for(lambda: restarts(guest, unit(after)), "a new start")
    node.shows(after, "ready: ")
    node.works(after)
    node.stands_by(before, after)


def test_a_program_that_uses_the_driver_keeps_it_until_the_reboot(node: Node) -> None:
    guest = node.guest
    before, after = node.selected_first()
    guest.run("systemctl", "enable", unit(after), unit(before))
    pid = guest.start("sh", "-c", "exec sleep 10000 3</dev/nvidiactl")
    guest.wait_for(lambda: running(guest, pid, f"/proc/{pid}/fd/3"), "the program", pause=0.1)
    assert node.start(after).status == 0
    holder = f"in use by process {pid} (sleep 10000)"
    shown = node.shows(after, f"pending: {before} is {holder}")
    assert f"{after} takes its place at the next boot" in shown["StatusText"]
    said = guest.said(unit(after))
    assert "unloading" not in said
    assert node.selected() == after
    version = before.partition("-")[2]
    assert node.loaded() == dict.fromkeys(MODULES, version)
    assert running(guest, pid)
    # Kept right meanwhile, whichever is selected.
    guest.run("rm", "/dev/nvidia-modeset")
    guest.wait_for(
        lambda: guest.run("ls", "/dev/nvidia-modeset", check=False).status == 0, "it"
    )

    node.machine.reboot(kernel=NO_CLOUD_INIT)
    node.shows(after, "ready: ")
    node.works(after)
    node.stands_by(before, after)
    assert loads(node.guest) == 1


def restarts(guest: Guest, name: str) -> int:
    """How often systemd has started a unit again by itself."""
    return int(guest.unit(name, "NRestarts")["NRestarts"])


def running(guest: Guest, pid: int, path: str = "/") -> bool:
    """Whether a process of ours runs, and a file is there."""
    return guest.run("ls", f"/proc/{pid}/exe", path, check=False).status == 0


def loads(guest: Guest) -> int:
    """How often a driver was loaded since the boot."""
    return len(guest.kernel_said("NVRM: loading"))
