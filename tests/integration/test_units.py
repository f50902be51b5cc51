"""The unit files, as systemd itself reads them, beside real ones of what they work with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from modulus.core.agent.backoff import PERMANENT
from tests.support import packages

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "units"
DOCS = ROOT / "docs/units.md"
INSTANCE = "modulus@driver-1.0.service"
NAMES = (INSTANCE, "modulus-wait.service")
BUILD = "modulus-build@driver-1.0.service"
"""Never enabled: agents start it."""

REAL = {
    "cloud-init": ("cloud-init", "cloud-init-local", "cloud-config", "cloud-final"),
    "containerd": ("containerd",),
    "docker.io": ("docker",),
    "podman": ("podman-restart",),
}
"""Packages and the services in them that a node would have enabled."""

ONCE = "\n[Service]\nExecStart=/bin/true\n"
# Not in the distribution: ordered as upstream's packages have them.
KUBELET = f"[Unit]\nWants=network-online.target\nAfter=network-online.target{ONCE}"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze"),
]


class Node:
    """A folder of units in front of the machine's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for unit in UNITS.glob("*.service"):
            self.add(unit.name, unit.read_text())
        # Templates are verified as instances.
        for name in (INSTANCE, BUILD):
            self.add(name, (UNITS / name.replace("driver-1.0", "")).read_text())

    def add(self, name: str, text: str) -> None:
        """A unit; what it starts need not be installed here."""
        text = re.sub(r"^(Exec\w+=[@:+!-]*)/\S+", r"\1/bin/true", text, flags=re.MULTILINE)
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def enable(self, name: str, target: str = "multi-user.target") -> None:
        wants = self.folder / f"{target}.wants"
        wants.mkdir(exist_ok=True)
        (wants / name).symlink_to(self.folder / name)

    def order(self, name: str, text: str) -> None:
        """A drop-in for the unit ``name``."""
        self.add(f"{name}.d/order.conf", f"[Unit]\n{text}\n")

    def verify(self, *names: str) -> str:
        """What systemd finds wrong with starting these units."""
        done = self._analyze("verify", "--man=no", *names)
        return done.stdout + done.stderr

    def security(self, name: str, *options: str) -> str:
        done = self._analyze("security", "--offline=yes", "--no-pager", *options, name)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _analyze(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{self.folder}:", "LC_ALL": "C.UTF-8"}
        paths = [
            str(self.folder / word) if word.endswith(".service") else word for word in words
        ]
        return subprocess.run(
            ["systemd-analyze", *paths], env=environ, capture_output=True, text=True
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "units")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The real units, by name."""
    found = {}
    for package in REAL:
        try:
            deb = packages.download(package)
        except packages.UnavailableError as error:
            pytest.skip(str(error))
        root = packages.unpack(deb, tmp_path_factory.mktemp(package))
        units = [unit for unit in (root / "lib/systemd/system").iterdir() if unit.is_file()]
        found.update({unit.name: unit.read_text() for unit in units})
        shutil.rmtree(root)
    return found


@pytest.fixture
def full(node: Node, real: dict[str, str]) -> Node:
    """A node with cloud-init and every runtime, all of it enabled."""
    for name, text in real.items():
        node.add(name, text)
    for name in (name for names in REAL.values() for name in names):
        cloud = name.startswith("cloud-")
        node.enable(f"{name}.service", "cloud-init.target" if cloud else "multi-user.target")
    # By cloud-init's generator.
    node.enable("cloud-init.target")
    for name in ("kubelet", "crio", "k3s", "k3s-agent", "rke2-server", "rke2-agent"):
        node.add(f"{name}.service", KUBELET)
        node.enable(f"{name}.service")
    for name in NAMES:
        node.enable(name)
    return node


def test_nothing_is_wrong_with_them(node: Node) -> None:
    assert node.verify(*NAMES, BUILD) == ""


def test_a_fault_would_be_found(node: Node) -> None:
    node.order(INSTANCE, "Afterwards=basic.target")
    assert "Unknown key 'Afterwards'" in node.verify(INSTANCE)


def cycles(text: str) -> list[str]:
    return [line for line in text.splitlines() if "ordering cycle" in line]


def test_a_full_node_boots_without_a_cycle(full: Node) -> None:
    assert cycles(full.verify("multi-user.target")) == []


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("modulus-wait.service", "After=cloud-final.service"),
        ("modulus-wait.service", "After=multi-user.target"),
        # As if it were the other way round: is kubelet really behind it?
        *(
            ("modulus-wait.service", f"After={name}.service")
            for name in ("kubelet", "containerd", "docker", "crio", "podman-restart", "k3s")
        ),
    ],
)
def test_a_cycle_would_be_found(full: Node, name: str, order: str) -> None:
    full.order(name, order)
    assert cycles(full.verify("multi-user.target"))


@pytest.mark.parametrize(("more", "found"), [("", False), ("\nDefaultDependencies=yes", True)])
@pytest.mark.parametrize("name", NAMES)
def test_the_boot_itself_waits_for_neither(
    node: Node, name: str, more: str, found: bool
) -> None:
    """What comes after the boot may start both, or that would be a cycle.

    Runtimes wait, and what waits for them; without any there is nothing that would.
    """
    node.add("late.service", f"[Unit]\nAfter=multi-user.target\nDefaultDependencies=no{ONCE}")
    node.enable("late.service")
    node.enable(name)
    node.order(name, f"After=late.service{more}")
    assert bool(cycles(node.verify("multi-user.target"))) == found


def test_no_runtime_waits_for_an_instance_itself(full: Node) -> None:
    full.order(INSTANCE, "After=cloud-final.service")
    assert cycles(full.verify("multi-user.target")) == []


def values(name: str, key: str) -> Sequence[str]:
    text = (UNITS / name).read_text()
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def test_what_is_permanent_is_not_started_again() -> None:
    (codes,) = values("modulus@.service", "RestartPreventExitStatus")
    assert set(map(int, codes.split())) == PERMANENT


def test_it_is_ordered_after_nothing_that_may_come_late() -> None:
    for unit in UNITS.glob("*.service"):
        assert values(unit.name, "After") == ["sysinit.target basic.target"]
        assert values(unit.name, "Wants") in ([], ["modulus-wait.service"])


def is_off(node: Node, name: str) -> set[str]:
    """What systemd-analyze security would have a unit turn on."""
    found = json.loads(node.security(name, "--json=short"))
    return {entry["name"] for entry in found if entry["set"] is False}


def test_a_build_has_all_that_an_agent_has_and_more(node: Node) -> None:
    _, _, text = DOCS.read_text().partition("`modulus-build@.service` loads nothing")
    on = set(re.findall(r"`([^`]+)`", text.partition("\n\n")[0]))
    score = re.search(r"`modulus-build@.service` (\d+\.\d)", DOCS.read_text())
    assert score
    agent, build = is_off(node, INSTANCE), is_off(node, BUILD)
    assert build <= agent
    if subprocess.getoutput("systemd-analyze --version").startswith("systemd 252 "):
        assert on == agent - build
        assert f"exposure level for {BUILD}: {score[1]} " in node.security(BUILD)


def test_a_build_is_in_no_hurry_and_shows_in_the_agents_journal() -> None:
    unit = "modulus-build@.service"
    assert values(unit, "Nice") == ["19"] and values(unit, "CPUWeight") == ["10"]
    assert values(unit, "LogExtraFields") == ["OBJECT_SYSTEMD_UNIT=modulus@%i.service"]
    assert values(unit, "WantedBy") == []


@pytest.mark.parametrize("name", NAMES)
def test_every_exemption_has_its_reason(node: Node, name: str) -> None:
    kind = "modulus-wait.service" if "wait" in name else "modulus@.service"
    _, _, text = DOCS.read_text().partition("## systemd-analyze security")
    score = re.search(rf"`{re.escape(kind)}` (\d+\.\d)", text)
    assert score
    first, _, second = text.partition("`modulus-wait.service` reads states")
    second, _, _ = second.partition("`modulus-build@.service` loads nothing")
    reasons = (second if "wait" in name else first).replace("\\|", "|")
    off = is_off(node, name)
    given = set(
        re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\| (`.*?) \| ", reasons, re.M)))
    )
    if subprocess.getoutput("systemd-analyze --version").startswith("systemd 252 "):
        assert given == off
        assert f"exposure level for {name}: {score[1]} " in node.security(name)
