"""A node that gets another kernel: its drivers are there on it after the reboot, unasked, and
the reboot waits for them.

One machine with two drivers: the real one, whose build for the newer kernel is in the node's
read-only store, and a small one that the node compiles. The tests go on from each other.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import packages
from tests.support.system import parts_of, stored
from tests.support.vm.guest import Guest
from tests.support.vm.image import Image
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import CACHE, Store, built_in
from tests.vm.conftest import MakeMachine

pytestmark = [pytest.mark.integration, pytest.mark.required("vm", "driver")]

NO_CLOUD_INIT = "cloud-init=disabled"
HOME = "/opt/drivers/.nvidia"
MODULES = {"nvidia", "nvidia_uvm", "nvidia_modeset", "v4l2loopback"}
HELD = 5 * 60  # seconds, as hold_reboot says
LOGIND = (
    *("busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"),
    "org.freedesktop.login1.Manager",
)
INSTALL = "dpkg --install /root/linux-image.deb >/root/dpkg.log 2>&1; echo $? >/root/dpkg"


@pytest.fixture(scope="module")
def newer(image: Image) -> str:
    if image.newer is None:
        # Not a skip, which fails where "vm" is required: the machine lacks nothing.
        pytest.xfail("the archive has only one kernel today")
    return image.newer


@pytest.fixture(scope="module")
def machine(
    make_machine: MakeMachine,
    installed: Path,
    store: Store,
    site: Site,
    image: Image,
    newer: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Machine:
    """A node that is READY on its kernel, with the package of another one beside it."""
    package = packages.download(f"linux-image-{newer}", image.codename)
    # Compiling the small driver for this kernel too would test nothing, for a minute.
    built = built_here(tmp_path_factory.mktemp("built") / "small.tar", store, image)
    machine = make_machine(installed, disks=[store.path])
    machine.start(kernel=NO_CLOUD_INIT)
    guest = machine.guest
    guest.push(built, "/root/small.tar")
    guest.run("mkdir", "-p", f"/{CACHE}")
    guest.run("tar", "-x", "-C", f"/{CACHE}", "-f", "/root/small.tar")
    guest.write("/etc/modulus/modulus.d/hold.yaml", "hold_reboot: 5min\n")
    guest.run("systemctl", "enable", "--now", "--no-block", *units(store))
    site.mirror.serve("/linux-image.deb", package)
    guest.run("curl", "-sSf", "-o", "/root/linux-image.deb", f"{site.url}/linux-image.deb")
    for unit in units(store):
        assert guest.wait_for_unit(unit) == "active"
    return machine


def built_here(file: Path, store: Store, image: Image) -> Path:
    """The small driver for the image's own kernel, packed: the store was made with it."""
    cache = built_in(image.codename) / CACHE
    (entry,) = (
        entry
        for entry in stored(cache)
        if entry.release == image.release
        and entry.manifest
        and entry.manifest.instance == store.small
    )
    parts = [path.relative_to(cache) for path in parts_of(entry)]
    subprocess.run(["tar", "-c", "-C", cache, "-f", file, *parts], check=True)
    return file


def units(store: Store) -> tuple[str, str]:
    return f"modulus@{store.driver}.service", f"modulus@{store.small}.service"


def status(guest: Guest, instance: str, *options: str) -> dict[str, Any]:
    done = guest.run("modulus", "status", instance, "--json", *options)
    (state,) = json.loads(done.stdout)["instances"]
    assert isinstance(state, dict)
    return state


def ready(guest: Guest, instance: str) -> dict[str, bool]:
    """The installed kernels, and whether the driver is ready for them."""
    kernels = status(guest, instance)["kernels"]
    return {kernel["release"]: kernel["ready"] for kernel in kernels}


def journal(guest: Guest, unit: str) -> str:
    return guest.journal("--output=cat", f"--unit={unit}")


def compiling(guest: Guest) -> str:
    """The service of a build, once its compiler may run."""
    if guest.run("pgrep", "-x", "make", check=False).status:
        return ""
    words = ("list-units", "--plain", "--no-legend", "modulus-build-*")
    return guest.run("systemctl", *words).stdout.partition(" ")[0]


def test_a_kernels_package_begins_the_build_and_is_not_held_by_it(
    machine: Machine, store: Store, newer: str
) -> None:
    guest, (_, small) = machine.guest, units(store)
    assert guest.run("systemd-inhibit", "--list", "--no-pager").stdout == "No inhibitors.\n"
    guest.run("sh", "-c", "rm -f /run/modulus/kernels/changed")
    guest.start("sh", "-c", INSTALL)
    build = guest.wait_for(lambda: compiling(guest), "a compiler", pause=0.3)
    # So that it certainly outlasts what follows, which it would most often anyway.
    guest.run("systemctl", "freeze", build)
    lane = f"modulus-build@{store.small}.service"
    assert guest.unit(lane, "ActiveState") == {"ActiveState": "activating"}
    found = guest.run("ps", "-o", "ni=,cls=", "-C", "make").stdout.split("\n")
    assert {each.split()[0] for each in found if each} == {"19"}
    shown = guest.unit(build, "Nice", "CPUWeight", "IOSchedulingClass", "BindsTo")
    assert (shown["Nice"], shown["CPUWeight"], shown["BindsTo"]) == ("19", "10", lane)

    asked = "cat /root/dpkg 2>/dev/null"
    ended = guest.wait_for(
        lambda: guest.run("sh", "-c", asked, check=False).stdout, "dpkg to end"
    )
    assert ended == "0\n", guest.read("/root/dpkg.log")
    assert compiling(guest) == build
    # The hook rang, whoever noticed first.
    guest.run("test", "-e", "/run/modulus/kernels/changed")
    said = journal(guest, small)
    assert f"watch: kernel {newer} was installed\n" in said
    assert f"build: {store.small} ahead of the next boot: {newer}\n" in said
    # What the service says is there as well.
    assert re.search(
        rf"^build: {store.small} for {re.escape(newer)} with gcc-\d+ in nspawn",
        said,
        re.MULTILINE,
    )
    # Not while the package was half there.
    waited = f"build: {store.small}: waits until linux-image-{newer} is installed\n"
    assert said.index(waited) < said.index(f"build: {store.small} ahead of the next boot")


def test_status_says_whether_the_driver_will_be_there_after_a_reboot(
    machine: Machine, store: Store, image: Image, newer: str
) -> None:
    guest = machine.guest
    guest.wait_for(lambda: ready(guest, store.driver).get(newer), "the build to be seen")
    running = {"release": image.release, "ready": True, "default_boot": False}
    other = {"release": newer, "ready": True, "default_boot": True}
    assert status(guest, store.driver)["kernels"] == [running, other]
    without_store = status(guest, store.driver, "--set", "stores=[]")["kernels"]
    assert without_store == [running, other | {"ready": False}]
    assert status(guest, store.small)["kernels"] == [running, other | {"ready": False}]
    shown = guest.run("modulus", "status").stdout
    assert re.search(rf"{re.escape(newer)} +ready, booted next\n", shown)
    assert re.search(rf"{re.escape(newer)} +not ready, booted next\n", shown)
    assert f"hit: {store.driver} for {newer} (" in journal(guest, units(store)[0])


def test_a_script_learns_whether_a_reboot_is_safe(machine: Machine, store: Store) -> None:
    words = ("build", "--all-kernels", "--lock-timeout", "1")
    assert machine.guest.run("modulus", *words, store.driver).status == 0
    assert machine.guest.run("modulus", *words, store.small, check=False).status == 20


def test_a_reboot_waits_for_the_build(machine: Machine, store: Store, newer: str) -> None:
    guest, (_, small) = machine.guest, units(store)
    limit = guest.run(*LOGIND, "InhibitDelayMaxUSec").stdout
    assert limit == f"t {HELD * 1_000_000}\n"
    drop_in = guest.read("/run/systemd/logind.conf.d/90-modulus.conf")
    assert f"\n[Login]\nInhibitDelayMaxSec={HELD}\n" in drop_in
    assert status(guest, store.small)["hold_s"] == HELD
    locks = guest.run("systemd-inhibit", "--list", "--no-pager").stdout.splitlines()
    (lock,) = (line for line in locks if store.small in line)
    assert lock.startswith("Modulus ")
    assert re.search(r"shutdown +the build of \S+ for the next kernel +delay$", lock.rstrip())

    build, boot = compiling(guest), guest.read("/proc/sys/kernel/random/boot_id")
    guest.run("systemctl", "reboot")
    text = f"wait: a shutdown waits for the build of {store.small} for the next kernel"
    guest.wait_for(lambda: text in journal(guest, small), "the agent to say so")
    assert guest.run(*LOGIND, "PreparingForShutdown").stdout == "b true\n"
    # Longer than logind would have waited by itself.
    before = float(guest.read("/proc/uptime").split()[0])
    guest.wait_for(lambda: float(guest.read("/proc/uptime").split()[0]) > before + 6, "6 s")
    assert guest.read("/proc/sys/kernel/random/boot_id") == boot
    assert guest.unit(small, "ActiveState") == {"ActiveState": "active"}

    machine.set_network(False)
    guest.run("systemctl", "thaw", build)
    machine.wait_off()
    said = machine.journal.read_text("utf-8", "replace")
    assert "a shutdown was held for" not in said
    # A build that was stopped is not "built". logind says "will reboot now" when it is asked.
    done = said.index(f"built: {store.small} for {newer} in ")
    assert re.search(r"modulus\[\d+\]: build: \d+ % \(\d+/\d+\)", said[:done])
    assert done < said.index("System is rebooting.")


def test_after_the_reboot_the_drivers_are_there_for_the_new_kernel(
    machine: Machine, store: Store, image: Image, newer: str
) -> None:
    machine.start(kernel=NO_CLOUD_INIT)
    guest = machine.guest
    assert guest.run("uname", "-r").stdout.strip() == newer
    for unit, instance in zip(units(store), (store.driver, store.small), strict=True):
        assert guest.wait_for_unit(unit) == "active"
        assert f"hit: {instance} for {newer} (" in journal(guest, unit)
    loaded = {line.split()[0] for line in guest.read("/proc/modules").splitlines()}
    assert loaded >= MODULES and "nouveau" not in loaded
    new = status(guest, store.driver)["generation"]
    assert newer in new
    (old,) = {*guest.run("ls", "-A", HOME).stdout.split()} - {new}
    assert image.release in old
    assert guest.run("readlink", "/opt/drivers/nvidia").stdout == f".nvidia/{new}\n"
    for generation, release in ((old, image.release), (new, newer)):
        folder = f"{HOME}/{generation}/lib/modules"
        assert guest.run("ls", folder).stdout.split() == [release]
    compiled = guest.journal("--output=cat", "MODULUS_PHASE=build")
    assert " in nspawn" not in compiled
    verified = guest.run("modulus", "verify", "--json").stdout
    assert json.loads(verified)["ok"]
    for instance in (store.driver, store.small):
        guest.run("modulus", "build", instance, "--all-kernels")


def test_the_hook_for_headers_rings_and_harms_nothing_without_an_agent(
    machine: Machine, store: Store, image: Image
) -> None:
    guest, (_, small) = machine.guest, units(store)
    # As the packages of headers call it.
    hooks = "/etc/kernel/header_postinst.d"
    ring = ("run-parts", "--exit-on-error", f"--arg={image.release}", hooks)
    guest.run("touch", f"/lib/modules/{image.release}/modules.builtin")
    guest.run(*ring)
    text = f"watch: kernel {image.release} was changed, or its headers\n"
    guest.wait_for(lambda: text in journal(guest, small), "the agent to notice", pause=0.3)
    guest.run("systemctl", "stop", *units(store))
    guest.run("rm", "-r", "/run/modulus/kernels")
    done = guest.run(*ring)
    assert (done.stdout, done.stderr) == ("", "")
    guest.run("sh", "-c", "! test -e /run/modulus/kernels")
