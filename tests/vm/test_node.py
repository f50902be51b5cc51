"""The life of a node: from a bare cloud image by user-data to READY, through a reboot without
network, store and cache, until Modulus and its drivers are taken off it.

One machine. The tests go on from each other, in the order they are in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.vm.guest import Done, Guest
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import Store
from tests.vm.conftest import MakeMachine

pytestmark = [pytest.mark.integration, pytest.mark.required("vm", "driver")]

SOURCE = Path(__file__).parents[2]
NO_CLOUD_INIT = "cloud-init=disabled"
CACHE = "/var/cache/modulus"
MODULES = ("nvidia", "nvidia_uvm", "nvidia_modeset")
MEMORY = 1536 << 20  # bytes, for builds

# As kubeadm's: it knows nothing of Modulus.
KUBELET = (
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
    "[Install]\nWantedBy=multi-user.target\n"
)

OTHERS = ("/etc/modprobe.d/other.conf", "/etc/ld.so.conf.d/other.conf", "/opt/drivers/other")
"""Files beside ours that are not ours."""

# Where what has nothing to do with Modulus comes and goes in the life of a node. Other file
# systems are not looked at.
PASSING = re.compile(
    r"/(root|tmp|var/(log|tmp)|var/lib/(apt|cloud|systemd)|var/cache/(apt|ldconfig))/"
    r"|/var/lib/cloud$"
)

# Unloads the driver and removes its nodes with no help of Modulus.
CLEAN = r"""
rmmod nvidia_modeset nvidia_uvm nvidia || exit
find /dev -path '/dev/nvidia*' -delete
find /dev/char -xtype l -delete
"""

PROBES = r"""
for module in nvidia nvidia-uvm nvidia-modeset; do
    modprobe -d /run/modulus/nvidia/modules --ignore-install "$module" || exit
done
"""
# What Modulus is measured against: no more than bare modprobe and mknod.
BARE = rf"""
{PROBES}
major() {{ awk -v name="$1" '$2 == name {{ print $1 }}' /proc/devices; }}
uvm=$(major nvidia-uvm) caps=$(major nvidia-caps)
mkdir /dev/nvidia-caps
mknod -m 666 /dev/nvidiactl c 195 255; mknod -m 666 /dev/nvidia0 c 195 0
mknod -m 666 /dev/nvidia-modeset c 195 254
mknod -m 666 /dev/nvidia-uvm c "$uvm" 0; mknod -m 666 /dev/nvidia-uvm-tools c "$uvm" 1
mknod -m 666 /dev/nvidia-nvlink c "$(major nvidia-nvlink)" 0
mknod -m 666 /dev/nvidia-nvswitchctl c "$(major nvidia-nvswitch)" 255
mknod -m 400 /dev/nvidia-caps/nvidia-cap1 c "$caps" 1
mknod -m 444 /dev/nvidia-caps/nvidia-cap2 c "$caps" 2
"""

# Prints how many seconds a command takes by the clock, and its exit status.
TIMED = (
    "import subprocess, sys, time\nstart = time.monotonic()\n"
    "status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
    "print(time.monotonic() - start, status)\n"
)


@dataclass(frozen=True)
class Node:
    """The machine; ``before`` are the files it had before it had Modulus."""

    machine: Machine
    driver: str
    small: str
    before: frozenset[str]

    @property
    def guest(self) -> Guest:
        return self.machine.guest

    @property
    def version(self) -> str:
        return self.driver.partition("-")[2]

    @property
    def unit(self) -> str:
        return f"modulus@{self.driver}.service"

    @property
    def small_unit(self) -> str:
        return f"modulus@{self.small}.service"

    def shell(self, script: str, check: bool = True) -> str:
        return self.guest.run("sh", "-c", script, check=check).stdout

    def modulus(self, *words: str) -> Done:
        return self.guest.run("modulus", *words, check=False)

    def result(self, *words: str) -> Any:
        """What a command prints with --json; it succeeds."""
        return json.loads(self.guest.run("modulus", *words, "--json").stdout)

    def loaded(self) -> dict[str, str]:
        """The modules of drivers and rivals that are loaded, with their versions."""
        names = "nvidia*/ nouveau/ v4l2loopback/"
        text = self.shell(
            f"cd /sys/module; for m in {names}; do"
            ' [ ! -d "$m" ] || echo "$m" "$(cat "${m}version" 2>/dev/null)"; done'
        )
        return {name.strip("/"): version for name, _, version in map(_part, text.splitlines())}

    def nodes(self) -> dict[str, str]:
        """Everything in /dev/nvidia*, with its kind, numbers, mode and owner."""
        text = self.shell(
            "find /dev -path '/dev/nvidia*' -exec stat -c '%n %F %Hr:%Lr %a %u:%g' {} +"
        )
        return {name: what for name, _, what in map(_part, text.splitlines())}

    def links(self) -> dict[str, str]:
        """The links in /dev/char to what is in /dev/nvidia*: number and path."""
        text = self.shell("find /dev/char -type l -printf '%f ' -exec readlink -m {} ';'")
        pairs = map(_part, text.splitlines())
        return {number: path for number, _, path in pairs if path.startswith("/dev/nvidia")}

    def journal(self, *words: str) -> list[dict[str, Any]]:
        """Entries of this boot's journal."""
        lines = self.guest.journal("--output=json", *words).splitlines()
        entries = [json.loads(line) for line in lines]
        for entry in entries:
            # Bytes where not all of them can be printed, such as a line's end of the kernel's.
            if isinstance(entry["MESSAGE"], list):
                entry["MESSAGE"] = bytes(entry["MESSAGE"]).decode("utf-8", "replace")
        return entries

    def story(self, unit: str) -> list[dict[str, Any]]:
        """What Modulus said of its steps in a unit since the boot; results are beside that."""
        return self.journal(f"--unit={unit}", "--identifier=modulus", "_TRANSPORT=journal")

    def ready_at(self, unit: str) -> int:
        """Microseconds from the kernel's start until the unit was active."""
        return int(self.guest.unit(unit, "ActiveEnterTimestampMonotonic").popitem()[1])

    def loads(self) -> int:
        """How often the driver was loaded since the boot."""
        return len(self.guest.kernel_said("NVRM: loading"))

    def files(self) -> frozenset[str]:
        """Every path on the disk that has to do with what is installed."""
        found = self.guest.run("find", "/", "-xdev").stdout.splitlines()
        return frozenset(path for path in found if not PASSING.match(path))

    def hold(self) -> int:
        """Has a process hold the driver; its pid."""
        pid = self.guest.start("sh", "-c", "exec sleep 1000 3</dev/nvidiactl")
        self.guest.wait_for(
            lambda: self.shell(f"readlink /proc/{pid}/fd/3", check=False),
            "the process to have the device open",
            pause=0.1,
        )
        return pid


def _part(line: str) -> tuple[str, str, str]:
    return line.partition(" ")


def messages(entries: Sequence[dict[str, Any]]) -> list[str]:
    return [entry["MESSAGE"] for entry in entries]


def phases(entries: Sequence[dict[str, Any]]) -> list[str]:
    """The phases in the order they began in."""
    return list(dict.fromkeys(entry["MODULUS_PHASE"] for entry in entries))


@pytest.fixture(scope="module")
def node(make_machine: MakeMachine, site: Site, store: Store) -> Node:
    text = site.user_data(store.driver, build={"memory_max": MEMORY})
    machine = make_machine(gpus=("t4-nouveau",), user_data=text, disks=[store.path])
    machine.start()
    # cloud-init has not come to its user-data, or not far.
    found = Node(machine, store.driver, store.small, frozenset()).files()
    before = (path for path in found if "modulus" not in path)
    return Node(machine, store.driver, store.small, frozenset(before))


def test_user_data_alone_makes_a_bare_image_a_node_with_its_driver(node: Node) -> None:
    assert node.guest.wait_for_unit(node.unit) == "active"
    assert node.loaded() == dict.fromkeys(MODULES, node.version)
    link = f"/sys/bus/pci/devices/{node.machine.address(0)}/driver"
    assert node.shell(f"readlink {link}").strip().endswith("/nvidia")
    node.guest.wait_for_unit("cloud-final.service")
    result = json.loads(node.guest.read("/run/cloud-init/result.json"))
    assert result["v1"]["errors"] == []
    assert "status: done\n" in node.guest.run("cloud-init", "status").stdout
    assert node.guest.run("systemctl", "is-system-running", "--wait").stdout == "running\n"


def test_nouveau_had_the_gpu_and_gave_it_up_for_good(node: Node) -> None:
    address = node.machine.address(0)
    said = messages(node.journal())
    had = next(i for i, each in enumerate(said) if "Initialized nouveau 1" in each)
    taken = said.index(f"load: taking GPU {address} from nouveau")
    unloaded = said.index("load: unloading nouveau")
    came = next(i for i, each in enumerate(said) if each.startswith("NVRM: loading"))
    assert address in said[had]
    assert had < taken < unloaded < came
    # As at a boot, or when it is plugged in.
    device = f"/sys/bus/pci/devices/{address}"
    node.guest.run("udevadm", "trigger", "--action=add", "--settle", device)
    assert "nouveau" not in node.loaded()


def test_neither_boot_nor_cloud_init_waits_for_the_driver(node: Node) -> None:
    ready = node.ready_at(node.unit)
    assert 0 < node.ready_at("multi-user.target") < ready
    assert 0 < node.ready_at("cloud-final.service") < ready


def test_the_journal_tells_the_story(node: Node) -> None:
    story = node.story(node.unit)
    assert phases(story) == ["plan", "unpack", "install", "load", "nodes", "verify", "ready"]
    assert {entry["PRIORITY"] for entry in story} == {"6"}
    assert {entry["MODULUS_INSTANCE"] for entry in story} == {node.driver}
    lines = messages(node.journal(f"--unit={node.unit}"))
    assert not [line for line in lines if "Traceback" in line]
    key = node.result("status", node.driver)["instances"][0]["key"]
    load = node.journal("MODULUS_PHASE=load")
    assert f"load: nvidia {node.version}" in messages(load)
    assert {entry["MODULUS_KEY"] for entry in load} == {key}


def test_status_and_verify_say_what_is(node: Node) -> None:
    (state,) = node.result("status")["instances"]
    assert (state["instance"], state["phase"]) == (node.driver, "watch")
    assert (state["active"], state["selected"], state["error"]) == (True, True, None)
    assert re.fullmatch("[0-9a-f]{64}", state["key"])
    release = node.guest.run("uname", "-r").stdout.strip()
    assert state["kernels"] == [{"release": release, "ready": True, "default_boot": True}]
    shown = node.guest.run("systemctl", "status", "--no-pager", "--full", node.unit).stdout
    assert f'Status: "ready: {state["generation"]}"' in shown
    # A GPU that is a stand-in is not usable, and not said to be; it does not count here.
    verified = node.result("verify")
    assert verified["ok"]
    told = {(each["level"], each["severity"]) for each in verified["findings"]}
    assert ("usable", "warning") in told
    assert "error" not in {severity for _, severity in told}


def test_programs_find_the_libraries_by_name(node: Node) -> None:
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        script = f"import ctypes; ctypes.CDLL('{name}'); print(open('/proc/self/maps').read())"
        maps = node.guest.run("python3", "-I", "-c", script).stdout
        stem = name.partition(".")[0]
        found = {line.split()[-1] for line in maps.splitlines() if f"/{stem}." in line}
        assert len(found) == 1
        assert found.pop().startswith("/opt/drivers/.nvidia/")


def test_nodes_are_those_that_the_vendors_own_tool_makes(node: Node) -> None:
    ours = node.nodes()
    node.shell("find /dev -path '/dev/nvidia*' -delete; find /dev/char -xtype l -delete")
    tool = "nvidia-modprobe"
    # It makes a node of an NVSwitch for each minor it is given, be there one or not.
    for words in (["-c0", "-c255", "-m"], ["-u", "-c0"], ["-l"], ["-s", "-c255"]):
        node.guest.run(tool, *words)
    for file in node.shell("find /proc/driver/nvidia*/capabilities -type f").split():
        node.guest.run(tool, "-f", file)
    theirs = node.nodes()
    assert len(theirs) >= 9
    assert theirs.items() <= ours.items()
    node.shell("find /dev -path '/dev/nvidia*' -delete; find /dev/char -xtype l -delete")
    node.guest.run("systemctl", "restart", node.unit)
    assert node.nodes() == ours
    numbers = {path: what.split()[-3] for path, what in ours.items() if "special" in what}
    assert node.links() == {number: path for path, number in numbers.items()}


def test_stale_nodes_are_named_and_put_right(node: Node) -> None:
    # Or its agent would be faster.
    node.guest.run("systemctl", "stop", node.unit)
    right, links = node.nodes(), node.links()
    spoil = (
        "rm /dev/nvidia-uvm; mknod -m 666 /dev/nvidia-uvm c 77 0; chmod 600 /dev/nvidia0;"
        "rm /dev/nvidiactl; rm /dev/char/195:254"
    )
    node.shell(spoil)
    wrong = node.nodes()
    verified = node.modulus("verify")
    assert verified.status == 19
    for line in (
        "error: /dev/nvidia-uvm is wrong: major 77 instead of ",
        "error: /dev/nvidia0 is wrong: mode 0600 instead of 0666 ",
        "error: /dev/nvidiactl is missing ",
        "warning: /dev/char/195:254 is missing ",
    ):
        assert line in verified.stdout
    # Not even the vendor's libraries, which it asks, have made a node.
    assert node.nodes() == wrong
    done = node.modulus("up", node.driver)
    assert done.status == 0, done.stderr
    assert "nodes: /dev/nvidia-uvm replaced: major 77 instead of " in done.stderr
    assert "nodes: /dev/nvidia0 replaced: mode 0600 instead of 0666" in done.stderr
    assert (node.nodes(), node.links()) == (right, links)
    node.guest.run("systemctl", "start", node.unit)


def test_the_node_compiles_a_small_driver_itself_without_a_network(node: Node) -> None:
    guest = node.guest
    node.machine.set_network(False)
    guest.run("systemctl", "start", "--no-block", node.small_unit)
    build = guest.wait_for(
        lambda: node.shell("systemctl list-units --plain --no-legend 'modulus-build-*'"),
        "the build's service",
        pause=0.3,
    ).split()[0]
    shown = guest.unit(
        build, "BindsTo", "CPUQuotaPerSecUSec", "ExecStart", "MemoryMax", "MemorySwapMax"
    )
    assert shown["BindsTo"] == node.small_unit
    assert shown["CPUQuotaPerSecUSec"] != "infinity"
    assert (shown["MemoryMax"], shown["MemorySwapMax"]) == (str(MEMORY), "0")
    assert "systemd-nspawn" in shown["ExecStart"]
    assert "--private-network" in shown["ExecStart"]
    assert guest.wait_for_unit(node.small_unit) == "active"
    node.machine.set_network(True)
    built = messages(node.journal("MODULUS_PHASE=build", f"MODULUS_INSTANCE={node.small}"))
    assert [each for each in built if re.match(r"build: \d+ % \(\d+/\d+\)", each)]
    assert "v4l2loopback" in node.loaded()
    assert "character" in guest.run("stat", "-c", "%F", "/dev/video0").stdout
    assert node.shell("systemctl list-units --all --no-legend 'modulus-build-*'") == ""


def test_a_driver_in_use_is_not_taken_down(node: Node) -> None:
    pid = node.hold()
    loaded, nodes = node.loaded(), node.nodes()
    done = node.modulus("down", node.driver)
    assert done.status == 17
    assert f"{node.driver} is in use by process {pid} (sleep 1000)\n" in done.stderr
    assert "modulus: hint: end what uses it" in done.stderr
    assert (node.loaded(), node.nodes()) == (loaded, nodes)
    assert node.modulus("verify", node.driver).status == 0
    node.guest.run("kill", str(pid))


def test_down_takes_away_what_is_ours_and_nothing_else(node: Node) -> None:
    node.shell(
        f"mkdir -p {OTHERS[-1]}; echo '# other' | tee {' '.join(OTHERS[:-1])};"
        "mknod /dev/nvidia-other c 1 3; ln -s ../nvidia-other /dev/char/1:99"
    )
    done = node.modulus("down", node.driver)
    assert done.status == 0, done.stderr
    for name in MODULES:
        assert f"removed: module {name}\n" in done.stdout
    assert node.loaded().keys() == {"v4l2loopback"}
    assert node.nodes().keys() == {"/dev/nvidia-other"}
    assert node.links() == {"1:99": "/dev/nvidia-other"}
    assert node.guest.read("/sys/module/firmware_class/parameters/path") == "\n"
    found = node.shell(
        "find /opt/drivers /etc/modprobe.d /etc/ld.so.conf.d /var/lib/modulus /run/modulus"
        " -name '*nvidia*' -not -path '/run/modulus/locks/*'; ldconfig -p | grep nvidia",
        check=False,
    )
    assert found == ""
    node.guest.run("ls", *OTHERS)
    again = node.modulus("down", node.driver)
    assert (again.status, again.stdout) == (0, f"down: {node.driver} was not up\n")
    node.shell(f"rm -r {' '.join(OTHERS)} /dev/nvidia-other /dev/char/1:99")
    node.guest.run("systemctl", "start", node.unit)
    assert node.loaded().keys() == {*MODULES, "v4l2loopback"}


def test_a_warm_boot_needs_no_network_no_store_and_no_cache(node: Node) -> None:
    guest, machine = node.guest, node.machine
    guest.write("/etc/systemd/system/kubelet.service", KUBELET)
    guest.run("systemctl", "enable", "kubelet.service")
    guest.run("rm", "-r", CACHE)
    machine.set_network(False)
    machine.disks = []
    machine.reboot(kernel=NO_CLOUD_INIT)
    guest = machine.guest
    assert guest.wait_for_unit(node.unit) == "active"
    story = node.story(node.unit)
    assert [each for each in messages(story) if each.startswith("plan: warm: ")]
    assert phases(story) == ["plan", "load", "nodes", "verify", "ready"]
    assert node.loaded() == dict.fromkeys(MODULES, node.version)
    assert {"/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"} <= node.nodes().keys()
    assert sorted(node.links().values()) == sorted(
        path for path, what in node.nodes().items() if "special" in what
    )


def test_kubelet_is_held_until_the_driver_is_ready(node: Node) -> None:
    assert node.guest.wait_for_unit("kubelet.service") == "active"
    started = int(
        node.guest.unit("kubelet.service", "ExecMainStartTimestampMonotonic").popitem()[1]
    )
    assert node.ready_at(node.unit) < node.ready_at("modulus-wait.service") < started
    waited = messages(node.story("modulus-wait.service"))
    assert waited[-1] == f"wait: {node.driver} is ready"
    assert node.guest.run("systemctl", "is-system-running", "--wait").stdout == "running\n"


@pytest.mark.full
def test_a_warm_up_beside_bare_modprobe_and_mknod(node: Node) -> None:
    """The times are printed, not judged: the host has other things to do."""
    guest = node.guest
    guest.run("systemctl", "stop", node.unit)
    commands = {
        "modprobes": ["sh", "-c", PROBES],
        "up": ["modulus", "up", node.driver],
        "bare": ["sh", "-c", BARE],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for name in (*commands,) * 3:
        guest.run("sh", "-c", CLEAN)
        took, status = guest.run("python3", "-I", "-c", TIMED, *commands[name]).stdout.split()
        assert status == "0"
        seconds[name].append(float(took))
    best = {name: min(times) for name, times in seconds.items()}
    print(
        *(f"{name}: {[round(each, 2) for each in times]} s" for name, times in seconds.items()),
        "ratio of the best, without the modprobes: "
        f"{(best['up'] - best['modprobes']) / best['bare']:.2f}",
        sep="; ",
    )
    # The last was the bare one: the unit makes of it what it should be, and loads nothing.
    guest.run("systemctl", "start", node.unit)
    assert node.loaded() == dict.fromkeys(MODULES, node.version)


def test_stop_disable_and_daemon_reload_leave_the_driver(node: Node) -> None:
    guest, loads = node.guest, node.loads()
    nodes, links = node.nodes(), node.links()
    files = "/opt/drivers /etc/modprobe.d /etc/ld.so.conf.d /var/lib/modulus"
    before = node.shell(f"find {files} -printf '%p %l %T@\n'")
    guest.run("systemctl", "disable", "--now", node.unit)
    guest.run("systemctl", "daemon-reload")
    assert guest.unit(node.unit, "ActiveState")["ActiveState"] == "inactive"
    assert node.loaded() == dict.fromkeys(MODULES, node.version)
    assert (node.nodes(), node.links()) == (nodes, links)
    assert node.shell(f"find {files} -printf '%p %l %T@\n'") == before
    guest.run("systemctl", "enable", "--now", node.unit)
    assert node.loads() == loads


def test_a_killed_agent_is_started_again_and_the_driver_does_not_notice(node: Node) -> None:
    guest, loads = node.guest, node.loads()
    before = guest.unit(node.unit, "MainPID", "NRestarts")
    guest.run("kill", "-KILL", before["MainPID"])
    guest.wait_for(
        lambda: (
            "again"
            if guest.unit(node.unit, "NRestarts", "ActiveState")
            == {"NRestarts": str(int(before["NRestarts"]) + 1), "ActiveState": "active"}
            else ""
        ),
        "the agent to be READY again",
    )
    assert guest.unit(node.unit, "StatusText")["StatusText"].startswith("ready: ")
    assert node.loads() == loads
    assert node.loaded() == dict.fromkeys(MODULES, node.version)


def test_uninstalled_only_a_driver_in_use_stays_and_that_is_said(node: Node) -> None:
    guest = node.guest
    up = node.modulus("up", node.small)
    assert up.status == 0, up.stderr
    pid = node.hold()
    for name in ("scripts/install", "modulus/__init__.py"):
        guest.run("mkdir", "-p", f"/root/source/{Path(name).parent}")
        guest.push(SOURCE / name, f"/root/source/{name}", 0o755)
    done = guest.run("/root/source/scripts/install", "--uninstall")
    assert f"{node.driver} is in use by process {pid} (sleep 1000)\n" in done.stderr
    assert re.search(
        f"warning: {node.driver} is still there; until the next boot stay /opt/drivers/nvidia,",
        done.stderr,
    )
    assert node.loaded() == dict.fromkeys(MODULES, node.version)
    assert "/dev/nvidia0" in node.nodes()
    assert node.shell("ls /opt/drivers") == "nvidia\n"
    assert guest.run("pgrep", "-f", "bin/modulus", check=False).stdout == ""
    assert node.shell("systemctl list-units --all --no-legend 'modulus*'") == ""


def test_after_the_next_boot_nothing_is_left(node: Node) -> None:
    guest, machine = node.guest, node.machine
    guest.run("dpkg", "--purge", "modulus")
    guest.run("systemctl", "disable", "kubelet.service")
    guest.run("rm", "/etc/systemd/system/kubelet.service")
    machine.reboot(kernel=NO_CLOUD_INIT)
    machine.guest.wait_for_unit("multi-user.target")
    assert node.loaded().keys() & set(MODULES) == set()
    assert node.nodes() == {}
    assert node.guest.read("/sys/module/firmware_class/parameters/path") == "\n"
    # The folder may be someone's mount point.
    assert node.files() - node.before <= {"/opt/drivers"}
    assert node.guest.run("systemctl", "is-system-running", "--wait").stdout == "running\n"
