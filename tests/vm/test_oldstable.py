"""The distribution's release before: a node from user-data over a switch and a reboot until
Modulus and its drivers are taken off it.

One machine. The tests go on from each other, in the order they are in.
"""

from __future__ import annotations

import pytest
import yaml

from tests.support.vm.image import OLDSTABLE, STORE
from tests.support.vm.site import Site
from tests.support.vm.store import SECOND_LABEL, Store
from tests.vm.conftest import MakeMachine
from tests.vm.test_switch import NO_CLOUD_INIT, SECOND, SETTINGS, Node, unit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.required("vm", "driver"),
    pytest.mark.parametrize("codename", [OLDSTABLE], indirect=True, scope="session"),
]

CACHE = "/var/cache/modulus"
COMPONENTS = ["utility"]  # all of them are copied and hashed more than once


@pytest.fixture(scope="module")
def node(make_machine: MakeMachine, site: Site, store: Store, second: Store) -> Node:
    site.mirror.serve(f"/{second.run.name}", second.run)
    site.mirror.serve_checksum(f"/{second.run.name}")
    text = site.user_data(store.driver, components=COMPONENTS)
    machine = make_machine(user_data=text, disks=[store.path, second.path])
    machine.start()
    return Node(machine, store.driver, second.driver)


def test_user_data_makes_it_a_node_with_its_driver(node: Node) -> None:
    guest = node.guest
    assert 'VERSION_ID="12"' in guest.read("/etc/os-release")
    assert guest.wait_for_unit(unit(node.old)) == "active"
    guest.wait_for_unit("cloud-final.service")
    node.works(node.old)
    assert "Traceback" not in guest.said(unit(node.old))
    assert guest.run("systemctl", "is-system-running", "--wait").stdout == "running\n"


def test_another_version_takes_its_place(node: Node, site: Site) -> None:
    guest = node.guest
    guest.run("mkdir", SECOND)
    guest.run("mount", "-o", "ro", f"LABEL={SECOND_LABEL}", SECOND)
    settings = site.settings(stores=[STORE, SECOND], components=COMPONENTS)
    guest.write(SETTINGS, yaml.safe_dump(settings))
    guest.run("systemctl", "enable", "--now", unit(node.new))
    node.works(node.new)
    node.stands_by(node.old, node.new)


def test_a_warm_boot_needs_no_network_no_store_and_no_cache(node: Node) -> None:
    node.guest.run("rm", "-r", CACHE)
    node.machine.set_network(False)
    node.machine.disks = []
    node.machine.reboot(kernel=NO_CLOUD_INIT)
    node.shows(node.new, "ready: ")
    node.works(node.new)
    node.stands_by(node.old, node.new)
    assert "plan: warm: " in node.guest.said(unit(node.new))


def test_purged_it_leaves_nothing(node: Node) -> None:
    guest = node.guest
    # What failed is forgotten with it.
    guest.run("systemctl", "start", "modulus-build@nonsense-1.service", check=False)
    assert (
        guest.unit("modulus-build@nonsense-1.service", "ActiveState")["ActiveState"] == "failed"
    )
    for instance in (node.old, node.new):
        guest.run("systemctl", "disable", "--now", unit(instance))
    guest.run("modulus", "down", node.new)
    assert node.shell("cd /sys/module; ls -d nvidia* || :") == ""
    guest.run("dpkg", "--purge", "modulus")
    left = node.shell(
        "find /etc /opt /run /usr /var -xdev -path '*modulus*' -not -path '/var/log/*'"
        " -not -path '/var/lib/cloud/*' -not -path '/run/systemd/units/*';"
        " ls -d /dev/nvidia* || :"
    )
    # Settings that a person wrote are the person's.
    assert left.split() == ["/etc/modulus", SETTINGS]
    assert node.shell("systemctl list-units --all --no-legend 'modulus*'") == ""
