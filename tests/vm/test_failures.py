"""What goes wrong on a node: it says so, it does no harm, and it gets well by itself.

One machine. The tests go on from each other, in the order of a node's life: wrong settings, a
wrong mirror, no network, a full disk, two power cuts, and builds that are killed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.vm.guest import Done, Guest
from tests.support.vm.image import STORE
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import Store
from tests.vm.conftest import MakeMachine

pytestmark = [pytest.mark.integration, pytest.mark.required("vm", "driver")]

NO_CLOUD_INIT = "cloud-init=disabled"
SETTINGS = "/etc/modulus/modulus.yaml"
CACHE = "/var/cache/modulus"
HOME = "/opt/drivers/.nvidia"

PART = "/root/part"
"""The store, but for the driver's package, which has to come from the mirror."""

NOWHERE = "224.0.0.1 us.download.nvidia.com download.nvidia.com"
"""For /etc/hosts: the vendor is out of reach, whatever network the tests have."""

# As kubeadm's: it knows nothing of Modulus.
KUBELET = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


@pytest.fixture(scope="module")
def unit(store: Store) -> str:
    return f"modulus@{store.driver}.service"


@pytest.fixture(scope="module")
def machine(make_machine: MakeMachine, installed: Path, store: Store, unit: str) -> Machine:
    machine = make_machine(installed, disks=[store.path])
    machine.start(kernel=NO_CLOUD_INIT)
    guest = machine.guest
    guest.wait_for_unit("multi-user.target")
    guest.write("/etc/systemd/system/kubelet.service", KUBELET)
    guest.run("systemctl", "enable", "kubelet.service", unit)
    guest.run("sh", "-c", f"echo '{NOWHERE}' >>/etc/hosts")
    # Mounts, since a store is not believed whose parts are links.
    for part in ("builds", "headers", "objects", "toolchains"):
        guest.run("mkdir", "-p", f"{PART}/{part}")
        guest.run("mount", "--bind", f"{STORE}/{part}", f"{PART}/{part}")
    return machine


def configure(machine: Machine, site: Site, **changed: Any) -> None:
    machine.guest.write(SETTINGS, yaml.safe_dump(site.settings(**changed)))


def boot_again(guest: Guest) -> None:
    """Starts all that a boot starts, in one transaction as a boot does; waits for nothing."""
    guest.run("systemctl", "stop", "kubelet.service", "modulus-wait.service")
    guest.run("systemctl", "reset-failed")
    guest.run("systemctl", "start", "--no-block", "multi-user.target")


def started(guest: Guest, name: str) -> float:
    """When a unit's first process was started, in seconds since the kernel was."""
    found = guest.unit(name, "InactiveExitTimestampMonotonic")
    return int(found["InactiveExitTimestampMonotonic"]) / 1e6


def settled(guest: Guest, name: str) -> float:
    """When a unit became active, or failed."""
    found = guest.unit(name, "ActiveState", "StateChangeTimestampMonotonic")
    assert found["ActiveState"] in ("active", "failed"), found
    return int(found["StateChangeTimestampMonotonic"]) / 1e6


def errors(guest: Guest, name: str) -> str:
    """What ``journalctl -u`` shows of a unit at priority err since it was started last."""
    return guest.said(name, "--priority=err")


def status(guest: Guest, instance: str) -> dict[str, Any]:
    (state,) = json.loads(guest.run("modulus", "status", instance, "--json").stdout)[
        "instances"
    ]
    assert isinstance(state, dict)
    return state


def files(guest: Guest, folder: str) -> list[str]:
    return guest.run("find", folder, "-type", "f", check=False).stdout.split()


def scratches(guest: Guest) -> list[str]:
    """Folders that only a run that is under way may have."""
    words = ("/opt/drivers", CACHE, "-name", ".*.????????", "-type", "d")
    return guest.run("find", *words).stdout.split()


def test_wrong_settings_fail_for_good_and_let_the_boot_go_on(
    machine: Machine, unit: str
) -> None:
    guest = machine.guest
    guest.write(SETTINGS, "boot_hold: 5min\nredy_when: nodes\n")
    boot_again(guest)
    assert guest.wait_for_unit(unit, ("failed",)) == "failed"
    found = guest.unit(unit, "NRestarts", "ExecMainStatus", "Result")
    assert found == {"NRestarts": "0", "ExecMainStatus": "10", "Result": "exit-code"}
    shown = guest.run("systemctl", "status", "--no-pager", "--full", unit, check=False).stdout
    cause = f"{SETTINGS}: redy_when: unknown key, did you mean ready_when?"
    assert f'Status: "failed: {cause} (next: correct these settings' in shown
    assert f"modulus: error: {cause}" in errors(guest, unit)
    guest.wait_for_unit("kubelet.service", ("active",))
    assert cause in errors(guest, "modulus-wait.service")


def test_what_does_not_match_its_checksum_is_not_kept_and_the_boot_goes_on(
    machine: Machine, unit: str, site: Site
) -> None:
    guest, name = machine.guest, site.store.run.name
    configure(machine, site, stores=[PART], offline=False)
    with wrong_package(site):
        boot_again(guest)
        guest.wait_for_unit(unit)
    found = guest.unit(unit, "NRestarts", "ExecMainStatus", "ActiveState")
    assert found == {"NRestarts": "0", "ExecMainStatus": "12", "ActiveState": "failed"}
    wait = "modulus-wait.service"
    guest.wait_for_unit("kubelet.service")
    assert settled(guest, unit) <= settled(guest, wait) <= started(guest, "kubelet.service")
    for told in (errors(guest, unit), errors(guest, wait)):
        assert "modulus: error: " in told and f"{name}.sha256sum says " in told
        assert "modulus: hint: " in told
    assert files(guest, f"{CACHE}/downloads") == []
    assert files(guest, "/opt/drivers") == []


def test_without_network_it_tries_again_ever_later_and_the_boot_waits_no_longer_than_boot_hold(
    machine: Machine, unit: str, site: Site, store: Store
) -> None:
    guest = machine.guest
    changed = {"stores": [PART], "offline": False, "network_wait": "1s", "boot_hold": "30s"}
    configure(machine, site, **changed)
    machine.set_network(False)
    boot_again(guest)
    guest.wait_for_unit("modulus-wait.service", ("activating",))
    with late_journal(guest, "modulus-wait.service"):
        guest.wait_for_unit("kubelet.service")
    held = started(guest, "kubelet.service") - started(guest, "modulus-wait.service")
    assert 30 <= held < 70
    told = errors(guest, "modulus-wait.service")
    assert "waited past 30 s, not ready yet" in told
    assert "boot_hold" in told
    guest.wait_for(lambda: "to the next try" in text(guest, unit), "the first try to fail")
    told = errors(guest, unit)
    assert "modulus: error: cannot fetch" in told and "modulus: hint: " in told
    # As after a night of it.
    record = f"/run/modulus/backoff/{store.driver}.json"
    guest.run("sed", "-i", "-E", 's/"failures": [0-9]+,/"failures": 12,/', record)
    guest.wait_for(lambda: "min to the next try" in text(guest, unit), "the next try to fail")
    shown = text(guest, unit)
    assert shown.startswith("wait: ") and "cannot fetch" in shown
    found = guest.unit(unit, "ActiveState", "NRestarts")
    assert found == {"ActiveState": "activating", "NRestarts": "0"}
    state = status(guest, store.driver)
    assert state["phase"] == "wait" and state["eta_s"] > 180
    assert state["error"]["code"] == 11 and state["error"]["hint"]

    machine.set_network(True)
    before = time.monotonic()
    configure(machine, site, **changed | {"boot_hold": "5min"})
    guest.wait_for(lambda: not text(guest, unit).startswith("wait: "), "the next try")
    assert time.monotonic() - before < 40
    assert guest.wait_for_unit(unit) == "active"
    assert guest.unit(unit, "NRestarts")["NRestarts"] == "0"
    assert {"nvidia", "nvidia_uvm", "nvidia_modeset"} <= modules(guest)
    assert status(guest, store.driver)["error"] is None


def test_a_full_disk_leaves_nothing_behind_and_is_waited_out(
    machine: Machine, unit: str, site: Site, store: Store
) -> None:
    guest = machine.guest
    configure(machine, site)
    guest.run("modulus", "down", store.driver)
    guest.run("mkdir", "-p", "/opt/drivers")
    guest.run("mount", "-t", "tmpfs", "-o", "size=50M", "tmpfs", "/opt/drivers")
    guest.run("systemctl", "start", "--no-block", unit)
    guest.wait_for(lambda: "to the next try" in text(guest, unit), "the disk to be full")
    told = errors(guest, unit)
    assert "/opt/drivers" in told and "No space left on device" in told
    assert "modulus: hint: make room" in told
    assert guest.run("ls", "-A", "/opt/drivers").stdout.split() == [".nvidia"]
    assert guest.run("ls", "-A", HOME).stdout == ""
    assert "nvidia" not in modules(guest)
    guest.run("umount", "/opt/drivers")


def test_a_power_cut_while_it_installs_leaves_nothing_half(
    machine: Machine, unit: str, store: Store
) -> None:
    guest = machine.guest
    # The unit tries again by itself, now that there is room.
    guest.wait_for(
        lambda: (
            guest.run("sh", "-c", f"ls -d {HOME}/.tmp.*/lib/*.so* 2>&-", check=False).stdout
        ),
        "a generation to be half there",
        pause=0.1,
    )
    # So that just this comes to the disk.
    guest.run("systemctl", "kill", "-s", "STOP", unit)
    guest.run("sync")
    assert [path for path in scratches(guest) if path.startswith(HOME)]
    machine.kill()
    machine.start(kernel=NO_CLOUD_INIT)
    guest = machine.guest
    # At once, with nothing but what was made to last on the disk.
    guest.wait_for(lambda: ready(guest, unit), "the unit to be READY", pause=0.05)
    machine.kill()
    machine.start(kernel=NO_CLOUD_INIT)
    guest = machine.guest
    assert guest.wait_for_unit(unit) == "active"
    found = status(guest, store.driver)
    assert scratches(guest) == []
    assert guest.run("ls", "-A", HOME).stdout.split() == [found["generation"]]
    link = guest.run("readlink", "/opt/drivers/nvidia").stdout.strip()
    assert link == f".nvidia/{found['generation']}"
    assert damaged(guest) == ""
    assert {"nvidia", "nvidia_uvm", "nvidia_modeset"} <= modules(guest)
    verified = json.loads(guest.run("modulus", "verify", "--json").stdout)
    severities = {each["severity"] for each in verified["findings"]}
    assert verified["ok"] and "error" not in severities


def test_kubelet_is_held_until_the_driver_is_ready(machine: Machine, unit: str) -> None:
    guest = machine.guest
    guest.wait_for_unit("kubelet.service")
    assert settled(guest, unit) <= settled(guest, "modulus-wait.service")
    assert settled(guest, "modulus-wait.service") <= started(guest, "kubelet.service")
    assert errors(guest, "modulus-wait.service") == ""
    # What is not to be held is not.
    assert started(guest, "dbus.service") < settled(guest, unit)


@pytest.mark.full
def test_a_build_that_is_killed_leaves_nothing_and_is_made_again(
    machine: Machine, site: Site, store: Store
) -> None:
    guest, unit = machine.guest, f"modulus@{store.small}.service"
    configure(machine, site)
    guest.run("systemctl", "start", "--no-block", unit)
    wait_for_payload(guest)
    guest.run("pkill", "-KILL", "-f", f"modulus up {store.small} --root")
    # Long before it would have come to its own end.
    guest.wait_for(lambda: "yes" if not payload(guest) else "", "the payload to end", 60, 0.2)
    guest.wait_for(lambda: errors(guest, unit), "the journal to tell of it")
    told = errors(guest, unit)
    assert "modulus: error: what was in phase build ended without a word" in told
    assert "modulus: hint: " in told
    wait_for_payload(guest)
    guest.run("systemctl", "kill", "-s", "KILL", "--kill-whom=all", unit)
    guest.wait_for(lambda: "yes" if not payload(guest) else "", "the payload to end", 60, 0.2)
    # The second by systemd itself; the first is nothing it has to know of.
    wait_for_payload(guest)
    assert guest.unit(unit, "NRestarts")["NRestarts"] == "1"

    hurried = guest.run("modulus", "up", store.small, "--lock-timeout", "1", check=False)
    holder = f"held by process {worker(guest, store.small)} ("
    assert hurried.status == 20
    assert holder in hurried.stderr and f"modulus up {store.small}" in hurried.stderr
    patient = guest.run("modulus", "up", store.small)
    assert f"wait: for the driver v4l2loopback, {holder}" in patient.stderr
    assert "unchanged" in patient.stdout
    assert guest.wait_for_unit(unit) == "active"
    assert "v4l2loopback" in modules(guest)
    assert scratches(guest) == []
    assert payload(guest) == ""
    left = guest.run("systemctl", "list-units", "--all", "--no-legend", "modulus-build-*")
    assert left.stdout == ""


@contextlib.contextmanager
def wrong_package(site: Site) -> Iterator[None]:
    """Has the mirror serve something else than its checksum says."""
    place = f"/{site.store.run.name}"
    right = site.mirror.resources[place]
    site.mirror.serve(place, b"#!/bin/sh\n" + bytes(1 << 20))
    try:
        yield
    finally:
        site.mirror.resources[place] = right


@contextlib.contextmanager
def late_journal(guest: Guest, unit: str) -> Iterator[None]:
    """Has journald take what a unit says at its end only afterwards, when its process is gone.

    By then it has forgotten whose process that was, having heard nothing of it for 5 s.
    """
    guest.wait_for(lambda: guest.said(unit), f"the first word of {unit}")
    guest.run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
    try:
        assert guest.unit(unit, "ActiveState")["ActiveState"] == "activating"
        yield
    finally:
        guest.run("systemctl", "kill", "--signal=CONT", "systemd-journald.service")


def text(guest: Guest, unit: str) -> str:
    return guest.unit(unit, "StatusText").get("StatusText", "")


def ready(guest: Guest, unit: str) -> str:
    return "yes" if guest.unit(unit, "ActiveState")["ActiveState"] == "active" else ""


def modules(guest: Guest) -> set[str]:
    return {line.split()[0] for line in guest.read("/proc/modules").splitlines()}


def worker(guest: Guest, instance: str) -> str:
    """The pid of the unit's own ``modulus up``."""
    return guest.run("pgrep", "-f", f"modulus up {instance} --root").stdout.strip()


def payload(guest: Guest) -> str:
    """The processes of a build container, if there are any."""
    return guest.run("pgrep", "-a", "-x", "systemd-nspawn|make|cc1", check=False).stdout


def wait_for_payload(guest: Guest) -> None:
    guest.wait_for(
        lambda: guest.run("pgrep", "-x", "make|cc1", check=False).stdout,
        "a compiler to run",
        pause=0.2,
    )


_CHECK = """
import hashlib, json, pathlib, sys
top = pathlib.Path("/opt/drivers/nvidia")
for file in json.loads((top / "generation.json").read_text())["files"]:
    data = (top / file["path"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        print(file["path"])
"""


def damaged(guest: Guest) -> str:
    """The files of the active generation that are not what its manifest says."""
    done: Done = guest.run("python3", "-c", _CHECK, check=False)
    return done.stdout + done.stderr
