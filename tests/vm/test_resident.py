"""The agent stays after READY: whatever is done to the node, the driver is right again.

One machine. The tests go on from each other, in the order of a node's life, until the driver is
taken off it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

import pytest
import yaml

from tests.support.vm.guest import Done, Guest
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import Store
from tests.vm.conftest import MakeMachine

pytestmark = [pytest.mark.integration, pytest.mark.required("vm", "driver")]

NO_CLOUD_INIT = "cloud-init=disabled"
SETTINGS = "/etc/modulus/modulus.yaml"
METRICS = "/var/lib/node-exporter"
MODPROBE = "/etc/modprobe.d/modulus-nvidia.conf"
MODULE_ROOT = "/run/modulus/nvidia/modules"
INTERFACE = "org.modulus1.Agent"
MEMORY = 45 << 10  # KiB, resident
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
MODULES = {"nvidia", "nvidia_uvm", "nvidia_modeset"}

# Spoils something and waits until it is right; prints the time before and after.
SPOIL = """
cut -d' ' -f1 /proc/uptime
{spoil}
until {right}; do sleep 0.1; done
cut -d' ' -f1 /proc/uptime
"""

# All threads of a process: how often it has been woken up.
WAKE_UPS = """
awk '/^voluntary_ctxt_switches/ {{ n += $2 }} END {{ print n }}' /proc/{pid}/task/*/status
"""

# As somebody does who wants other settings of a module, with other things loaded meanwhile: uio
# takes the first device number that is free, which one of the driver's had.
RELOAD = f"""
rmmod nvidia_modeset nvidia_uvm nvidia && modprobe uio || exit
for module in nvidia nvidia-uvm nvidia-modeset; do
    modprobe -d {MODULE_ROOT} --ignore-install "$module" || exit
done
"""


@dataclass(frozen=True)
class Node:
    """The machine, and what is asked of it."""

    machine: Machine
    driver: str

    @property
    def guest(self) -> Guest:
        return self.machine.guest

    @property
    def unit(self) -> str:
        return f"modulus@{self.driver}.service"

    @property
    def object(self) -> tuple[str, str]:
        """The agent's name on the bus, and its object."""
        escaped = re.sub("[^0-9A-Za-z]", lambda found: f"_{ord(found[0]):02x}", self.driver)
        return f"org.modulus1.{escaped}", f"/org/modulus1/{escaped}"

    @property
    def metrics(self) -> str:
        return f"{METRICS}/modulus-{self.driver}.prom"

    def shell(self, script: str, check: bool = True) -> str:
        return self.guest.run("sh", "-c", script, check=check).stdout

    def show(self, name: str) -> str:
        return self.guest.unit(self.unit, name)[name]

    @property
    def pid(self) -> int:
        return int(self.show("MainPID"))

    def loaded(self) -> set[str]:
        return set(self.shell("cd /sys/module; ls -d nvidia* || true").split())

    def loads(self) -> int:
        """How often the driver was loaded since the boot."""
        return len(self.guest.kernel_said("NVRM: loading"))

    def majors(self) -> dict[str, int]:
        """The device numbers that the kernel knows the driver's parts by."""
        found = re.findall(r"(?m)^ *(\d+) (nvidia\S*)$", self.guest.read("/proc/devices"))
        return {name: int(major) for major, name in found}

    def nodes(self) -> dict[str, str]:
        """The driver's device nodes, with their numbers, mode and owner."""
        text = self.shell(
            "find /dev -path '/dev/nvidia*' -type c -exec stat -c '%n %Hr:%Lr %a %u:%g' {} +"
        )
        return dict(line.split(" ", 1) for line in text.splitlines())

    def links(self) -> dict[str, str]:
        """The links in /dev/char to these: number and path."""
        text = self.shell("find /dev/char -type l -printf '%f %l\\n'")
        pairs = (line.split(" ", 1) for line in text.splitlines())
        found = {number: normpath(f"/dev/char/{leads}") for number, leads in pairs}
        return {number: path for number, path in found.items() if path.startswith("/dev/nv")}

    def said(self, *texts: str) -> None:
        """Waits until the unit's lines in the journal have all ``texts``."""
        words = ("--output=cat", f"--unit={self.unit}")
        self.guest.wait_for(
            lambda: contains(self.guest.journal(*words), texts),
            f"the journal to say {texts}",
        )

    def spoil(self, spoil: str, right: str) -> float:
        """Does something and waits until it is undone; after how many seconds."""
        script = SPOIL.format(spoil=spoil, right=right)
        start, end = self.guest.run("timeout", "90", "sh", "-c", script).stdout.split()
        return round(float(end) - float(start), 2)

    def ask(self, *words: str, user: tuple[str, ...] = ()) -> Done:
        """Asks the agent over the bus: get-property, call or introspect."""
        name, path = self.object
        done = (*user, "busctl", words[0], name, path, *words[1:])
        return self.guest.run(*done, check=False)

    def property(self, name: str) -> str:
        """A property as busctl prints it; nothing while there is none."""
        return self.ask("get-property", INTERFACE, name).stdout.strip()

    def status(self, user: tuple[str, ...] = ()) -> dict[str, Any]:
        done = self.guest.run(*user, "modulus", "status", self.driver, "--json")
        (state,) = json.loads(done.stdout)["instances"]
        assert isinstance(state, dict)
        return state

    def rest(self) -> None:
        """Waits until the agent is done with everything."""

        def resting() -> bool:
            found = self.guest.unit(self.unit, "ActiveState", "MainPID", "StatusText")
            children = f"/proc/{found['MainPID']}/task/{found['MainPID']}/children"
            return (
                found["ActiveState"] == "active"
                and found["StatusText"].startswith("ready: ")
                and self.shell(f"cat {children}", check=False) == ""
            )

        self.guest.wait_for(resting, "the agent to be at rest", pause=0.5)


def contains(text: str, parts: Sequence[str]) -> bool:
    return all(part in text for part in parts)


@pytest.fixture(scope="module")
def node(make_machine: MakeMachine, installed: Path, store: Store, site: Site) -> Node:
    machine = make_machine(installed, gpus=("a100",), disks=[store.path])
    machine.start(kernel=NO_CLOUD_INIT)
    # Few of its parts: what is installed is not the matter here.
    settings = site.settings(metrics_dir=METRICS, components=["utility"])
    machine.guest.write(SETTINGS, yaml.safe_dump(settings))
    node = Node(machine, store.driver)
    machine.guest.run("systemctl", "enable", "--now", "--no-block", node.unit)
    return node


def test_once_ready_the_agent_stays_and_the_metrics_say_so(node: Node) -> None:
    assert node.guest.wait_for_unit(node.unit) == "active"
    assert node.loaded() == MODULES
    assert node.links() == {what.split()[0]: path for path, what in node.nodes().items()}
    node.rest()
    assert node.status()["phase"] == "watch"

    def ready() -> bool:
        line = f'modulus_ready{{instance="{node.driver}"}} 1\n'
        return line in node.shell(f"cat {node.metrics}", check=False)

    node.guest.wait_for(ready, "the metrics to say that it is ready")
    # No half-written file beside it, nor one that only root may read.
    assert node.shell(f"ls -A {METRICS}") == f"{Path(node.metrics).name}\n"
    node.guest.run(*NOBODY, "cat", node.metrics)


def test_anyone_may_know_how_it_is_and_only_root_may_ask_the_agent(node: Node) -> None:
    shown = node.ask("introspect").stdout
    assert re.search(rf'\.Instance +property +s +"{re.escape(node.driver)}"', shown)
    assert re.search(r'\.Phase +property +s +"watch"', shown)
    for word in (r"\.Rebuild +method", r"\.Verify +method", r"\.PhaseChanged +signal +s"):
        assert re.search(word, shown)
    release = node.guest.run("uname", "-r").stdout.strip()
    wanted = ("Instance", "Phase", "Active", "Kernels")
    done = node.ask("get-property", INTERFACE, *wanted)
    assert done.stdout.splitlines() == [
        f's "{node.driver}"',
        's "watch"',
        f's "{node.driver}"',
        f'a(sb) 1 "{release}" true',
    ]
    assert node.status()["phase"] == node.status(NOBODY)["phase"] == "watch"
    for words in (
        ("get-property", INTERFACE, "Phase"),
        ("introspect",),
        ("call", INTERFACE, "Rebuild"),
        ("call", INTERFACE, "Verify"),
    ):
        refused = node.ask(*words, user=NOBODY)
        assert refused.status != 0
        assert "denied" in refused.stderr
    before, loads = node.show("MainPID"), node.loads()
    assert node.ask("call", INTERFACE, "Rebuild").status == 0
    node.said("plan: warm: ")
    node.rest()
    assert (node.show("MainPID"), node.loads()) == (before, loads)


def test_a_node_that_is_gone_or_wrong_is_put_right_and_the_journal_says_what_it_was(
    node: Node,
) -> None:
    nodes, links = node.nodes(), node.links()
    seconds = {
        "a node": node.spoil("rm /dev/nvidiactl", "[ -c /dev/nvidiactl ]"),
        "a link": node.spoil("rm /dev/char/195:254", "[ -L /dev/char/195:254 ]"),
        "a mode": node.spoil(
            "chmod 600 /dev/nvidia0", '[ "$(stat -c %a /dev/nvidia0)" = 666 ]'
        ),
    }
    print("repaired after", seconds)
    node.said(
        "watch: /dev/nvidiactl is missing",
        "nodes: /dev/nvidiactl made: it was missing",
        "watch: /dev/char/195:254 is missing",
        "nodes: /dev/char/195:254 made: it was missing",
        "watch: /dev/nvidia0 is wrong: mode 0600 instead of 0666",
        "nodes: /dev/nvidia0 replaced: mode 0600 instead of 0666",
    )
    node.rest()
    assert (node.nodes(), node.links()) == (nodes, links)


def test_a_killed_agent_comes_back_without_touching_the_driver(node: Node) -> None:
    loads, nodes, links = node.loads(), node.nodes(), node.links()
    before = node.guest.unit(node.unit, "MainPID", "NRestarts")
    # What happens while nobody looks is found by who comes back.
    node.shell(f"kill -KILL {before['MainPID']}; rm /dev/nvidia-uvm")
    restarts = str(int(before["NRestarts"]) + 1)
    node.guest.wait_for(lambda: node.show("NRestarts") == restarts, "systemd to start it again")
    node.rest()
    assert node.show("MainPID") != before["MainPID"]
    assert (node.loads(), node.loaded()) == (loads, MODULES)
    assert (node.nodes(), node.links()) == (nodes, links)
    node.guest.wait_for(lambda: node.property("Phase") == 's "watch"', "its object on the bus")


def test_modules_reloaded_by_hand_get_nodes_of_their_new_numbers(node: Node) -> None:
    before, loads = node.majors(), node.loads()
    nodes = node.nodes()
    # The agent sees all of it at once, however slow the guest is.
    agent = node.show("MainPID")
    node.shell(f"trap 'kill -CONT {agent}' EXIT; kill -STOP {agent}\n{RELOAD}")
    now = node.majors()
    changed = {name for name in before if before[name] != now[name]}
    assert "nvidia-uvm" in changed
    uvm = f"{now['nvidia-uvm']}:0 666 0:0"
    node.guest.wait_for(
        lambda: node.nodes().get("/dev/nvidia-uvm") == uvm, "the node of the new number"
    )
    number = f"{now['nvidia-uvm']} instead of {before['nvidia-uvm']}"
    node.said(f"the device number of nvidia-uvm is {number}")
    node.rest()
    numbers = {str(before[name]): str(now[name]) for name in before}
    assert node.nodes() == {
        path: f"{numbers[what.split(':', 1)[0]]}:{what.split(':', 1)[1]}"
        for path, what in nodes.items()
    }
    assert node.links() == {what.split()[0]: path for path, what in node.nodes().items()}
    # The agent itself has loaded nothing.
    assert (node.loads(), node.loaded()) == (loads + 1, MODULES)
    assert node.guest.run("modulus", "verify", node.driver).status == 0


def test_a_module_that_is_unloaded_by_hand_is_loaded_again(node: Node) -> None:
    loads = node.loads()
    node.guest.run("rmmod", "nvidia_uvm")
    node.guest.wait_for(lambda: node.loaded() == MODULES, "the module to be back")
    node.said("the kernel says: remove nvidia_uvm")
    node.rest()
    assert node.loads() == loads
    assert node.links() == {what.split()[0]: path for path, what in node.nodes().items()}


def test_a_restart_of_dbus_costs_the_agent_no_more_than_a_moment(node: Node) -> None:
    guest, before = node.guest, node.guest.unit(node.unit, "MainPID", "NRestarts")
    guest.run("systemctl", "restart", "dbus.service")
    guest.wait_for(
        lambda: node.property("Phase") == 's "watch"', "its object on the bus", pause=0.5
    )
    assert guest.unit(node.unit, "MainPID", "NRestarts") == before
    assert node.ask("call", INTERFACE, "Verify", user=NOBODY).status != 0
    assert node.status()["phase"] == "watch"


def test_systemd_started_anew_leaves_the_agent_alone(node: Node) -> None:
    guest, before = node.guest, node.guest.unit(node.unit, "MainPID", "NRestarts")
    links, loads = node.links(), node.loads()
    guest.run("systemctl", "daemon-reexec")
    guest.wait_for(
        lambda: (
            guest.run("systemctl", "is-active", node.unit, check=False).stdout == "active\n"
        ),
        "systemd to answer again",
    )
    assert guest.unit(node.unit, "MainPID", "NRestarts") == before
    assert node.property("Phase") == 's "watch"'
    assert (node.links(), node.loads()) == (links, loads)


def test_daemon_reload_leaves_the_links_and_is_when_everything_is_looked_at(node: Node) -> None:
    """After the bus and systemd were started anew: the agent still hears of it."""
    nodes, links = node.nodes(), node.links()
    text = node.guest.read(MODPROBE)
    # Which nobody watches.
    node.guest.run("rm", MODPROBE)
    node.guest.run("systemctl", "daemon-reload")
    node.said(
        f"after systemd has loaded its units anew: {MODPROBE} is missing",
        f"put right: {MODPROBE} is missing",
    )
    node.rest()
    assert node.guest.read(MODPROBE) == text
    assert (node.nodes(), node.links()) == (nodes, links)


def test_an_agent_at_rest_is_small_and_sleeps(node: Node) -> None:
    pid = node.pid
    status = node.guest.read(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    woken = WAKE_UPS.format(pid=pid)
    counts = [int(count) for count in node.shell(f"{woken}sleep 30{woken}").split()]
    print(f"resident: {int(found[1]) / 1024:.1f} MiB; woken up in 30 s: {counts}")
    assert int(found[1]) < MEMORY
    # One may be for systemd's watchdog.
    assert counts[1] - counts[0] <= 2
    assert node.show("NRestarts") == "1"
    assert node.guest.run("systemctl", "--failed", "--no-legend").stdout == ""


def test_down_ends_the_agent_and_takes_all_away(node: Node) -> None:
    guest = node.guest
    guest.read(node.metrics)
    done = guest.run("modulus", "down", node.driver)
    for name in MODULES:
        assert f"removed: module {name}\n" in done.stdout
    found = guest.unit(node.unit, "ActiveState", "MainPID")
    assert found == {"ActiveState": "inactive", "MainPID": "0"}
    assert node.loaded() == set()
    assert (node.nodes(), node.links()) == ({}, {})
    assert node.shell(f"ls -A {METRICS}") == ""
    assert node.object[0] not in guest.run("busctl", "list", "--no-legend").stdout
    found_files = node.shell(
        "find /opt/drivers /etc/modprobe.d /etc/ld.so.conf.d /var/lib/modulus /run/modulus"
        " -name '*nvidia*' -not -path '/run/modulus/locks/*'",
        check=False,
    )
    assert found_files == ""
