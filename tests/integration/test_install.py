"""scripts/install on a bare system of the distribution's packages, and what it leaves."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from modulus.core.userdata import Package
from tests.support import packages
from tests.support.checkout import ROOT, copy_checkout, set_version
from tests.support.debian import Done, debian_root, inside, writable
from tests.unit.core.test_userdata import rendered

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn")]


@dataclass(frozen=True)
class System:
    """A system's root, and the checkout that it sees at /src."""

    root: Path
    checkout: Path

    def run(self, *command: str) -> Done:
        return inside(self.root, *command, binds=[f"{self.checkout}:/src"])

    def install(self, *words: str) -> Done:
        return self.run("/src/scripts/install", *words)

    def version(self) -> str:
        return self.run("modulus", "--version").text.strip()

    def ours(self) -> list[str]:
        """All that has Modulus's name, but for /src."""
        done = self.run("find", "/", "-xdev", "-path", "/src", "-prune", "-o",
                        "-iname", "*modulus*", "-print")  # fmt: skip
        assert done.status == 0, done.text
        return done.text.split()


@pytest.fixture(scope="module")
def bare() -> Path:
    try:
        return debian_root()
    except packages.UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout") / "modulus")


@pytest.fixture(scope="module")
def first(
    bare: Path, checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Done]]:
    """A system after its first scripts/install, and what that said."""
    with writable(bare, tmp_path_factory.mktemp("installed")) as root:
        system = System(root, checkout)
        yield system, system.install()


@pytest.fixture
def system(first: tuple[System, Done], tmp_path: Path) -> Iterator[System]:
    """A system of the test's own with Modulus installed."""
    with writable(first[0].root, tmp_path) as root:
        yield System(root, first[0].checkout)


@pytest.fixture
def changed(system: System, tmp_path: Path) -> Callable[..., System]:
    """The system with a checkout at /src that differs, in its version too if one is given."""

    def change(version: str = "") -> System:
        checkout = copy_checkout(tmp_path / "changed")
        if version:
            set_version(checkout, version)
        profile = checkout / "profiles/v4l2loopback.yaml"
        profile.write_text(profile.read_text() + "# Changed.\n")
        return System(system.root, checkout)

    return change


def test_it_brings_what_it_needs(first: tuple[System, Done], instance: str) -> None:
    system, done = first
    assert done.status == 0, done.text
    lines = done.text.splitlines()
    assert len(lines) == 2, done.text
    assert re.match(r"install: installing Modulus \S+ and what it needs$", lines[0])
    assert re.match(r"install: Modulus \S+ is installed; systemd does not run here", lines[1])
    plan = system.run("modulus", "plan", instance, "--kernel", "6.1.0-1-amd64")
    assert plan.status == 0, plan.text
    assert "for 6.1.0-1-amd64" in plan.text or "miss: " in plan.text
    code = system.run("sh", "-c", "ls /usr/lib/python3/dist-packages/modulus/__pycache__")
    assert "__main__." in code.text


def test_every_module_can_be_imported(system: System) -> None:
    """With the distribution's libraries alone, in the versions that it has."""
    names = [
        ".".join(path.relative_to(system.checkout).with_suffix("").parts)
        for path in sorted((system.checkout / "modulus").rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py")
    ]
    imports = "import gi, jinja2, pydbus, requests, sh, yaml, zstandard; "
    done = system.run("python3", "-I", "-c", imports + "import " + ", ".join(names))
    assert (done.status, done.text) == (0, "")


def test_the_units_are_good(system: System) -> None:
    units = "/usr/lib/systemd/system/modulus*.service"
    # There is no man here to look its pages up.
    done = system.run("sh", "-c", f"systemd-analyze --man=no verify {units}")
    assert (done.status, done.text) == (0, "")


def test_again_it_does_nothing(system: System) -> None:
    done = system.install()
    assert done.status == 0
    assert re.fullmatch(
        r"install: Modulus \S+ is installed already; nothing to do\s", done.text
    )


def test_a_changed_checkout_of_the_same_version_is_installed(
    system: System, changed: Callable[..., System]
) -> None:
    done = changed().install()
    assert done.status == 0, done.text
    shown = system.run("tail", "-n", "1", "/usr/share/modulus/profiles/v4l2loopback.yaml")
    assert shown.text == "# Changed.\n"


def test_another_version_takes_the_place_and_back(
    system: System, changed: Callable[..., System]
) -> None:
    settings = system.root / "etc/modulus/modulus.yaml"
    settings.parent.mkdir()
    settings.write_text("numa_fix: true\n")
    before = system.version()
    done = changed("9.9").install()
    assert done.status == 0, done.text
    assert system.version() == "modulus 9.9"
    done = system.install()
    assert done.status == 0, done.text
    assert system.version() == before
    assert settings.read_text() == "numa_fix: true\n"


def test_uninstalled_and_purged_nothing_stays(system: System) -> None:
    assert len(system.ours()) > 5
    for folder in ("var/cache/modulus/builds", "etc/modulus/modulus.d"):
        (system.root / folder).mkdir(parents=True)
    (system.root / "etc/modulus/modulus.yaml").write_text("# Generated by Modulus for x-1.\n")
    enable = system.run("systemctl", "enable", "modulus@v4l2loopback-0.12.7.service")
    assert enable.status == 0, enable.text
    done = system.install("--uninstall")
    assert done.status == 0, done.text
    lines = done.text.splitlines()
    assert lines[0] == "install: removing Modulus, and taking its drivers down"
    assert lines[1].startswith("install: Modulus is removed; ")
    assert len(lines) == 2
    left = [path for path in system.ours() if not path.startswith("/var/lib/dpkg/info/")]
    assert sorted(left) == [
        # The administrator's, who may have changed them.
        "/etc/kernel/header_postinst.d/modulus",
        "/etc/kernel/postinst.d/modulus",
        "/etc/modulus",
        "/etc/modulus/modulus.d",
        "/etc/modulus/modulus.yaml",
        "/var/cache/modulus",
    ]
    again = system.install("--uninstall")
    assert (again.status, again.text) == (
        0,
        "install: Modulus is not installed; nothing to do\n",
    )
    assert system.run("apt-get", "-q", "-y", "purge", "modulus").status == 0
    assert system.ours() == []


def test_code_beside_it_is_not_run(system: System) -> None:
    """Root calls it in folders that others write, and with an environment of others."""
    script = (
        "mkdir /tmp/evil && cd /tmp/evil && mkdir modulus &&"
        "for name in yaml argparse modulus/__init__ sitecustomize; do"
        "    echo 'print(\"evil\")' >$name.py; done;"
        "PYTHONPATH=/tmp/evil modulus plan nvidia-1 --kernel 6.1.0-1-amd64 -v"
    )
    done = system.run("bash", "-c", script)
    assert "evil" not in done.text
    assert "miss: " in done.text


def test_without_sources_it_says_what_is_missing(
    bare: Path, checkout: Path, tmp_path: Path
) -> None:
    with writable(bare, tmp_path) as root:
        for file in (root / "etc/apt/sources.list.d").iterdir():
            file.unlink()
        system = System(root, checkout)
        assert system.run("apt-get", "update").status == 0
        done = system.install()
    assert done.status == 1
    errors = [line for line in done.text.splitlines() if line.startswith("install: error")]
    assert len(errors) == 1
    assert "python3-pydbus" in errors[0]
    assert done.text.splitlines()[-1].startswith("install: hint: look at what it says above")


@pytest.mark.parametrize("words", [[], ["--uninstall"]])
def test_it_needs_root(words: list[str]) -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    done = subprocess.run(
        # From its standard input: nobody may not see the checkout.
        [*(nobody if os.geteuid() == 0 else []), "bash", "-s", "--", *words],
        input=(ROOT / "scripts/install").read_text(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "install: error: only root can install or remove packages\n" in done.stderr
    assert "install: hint: run: sudo " in done.stderr


def test_an_unknown_argument_is_refused() -> None:
    done = subprocess.run(
        [ROOT / "scripts/install", "--remove"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "install: error: unknown argument --remove\n"
        "install: hint: scripts/install [--uninstall]\n"
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL that has its files."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_user_data_installs_the_package(system: System, served: tuple[Path, str]) -> None:
    """What runcmd does is done by the real tools, up to the start of a unit."""
    folder, url = served
    subprocess.run([system.checkout / "scripts/package", folder], check=True)
    (deb,) = folder.iterdir()
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    package = Package(f"{url}/{deb.name}", digest)
    assert system.run("apt-get", "-q", "-y", "purge", "modulus").status == 0
    steps = yaml.safe_load(rendered([], package))["runcmd"]
    assert steps[-1][:2] == ["systemctl", "start"]
    script = "\n".join(step if isinstance(step, str) else " ".join(step) for step in steps[:-1])
    done = system.run("sh", "-c", script)
    assert done.status == 0, done.text
    assert "W: " not in done.text
    assert system.version().startswith("modulus ")
    assert [path for path in system.ours() if path.endswith(f"{steps[-1][-1]}")]


AGENT = """
from gi.repository import Gio, GLib
XML = '''<node><interface name="org.modulus1.Agent">
<property name="Phase" type="s" access="read"/><method name="Rebuild"/></interface></node>'''
def call(connection, sender, path, interface, method, arguments, invocation):
    invocation.return_value(None)
def get(*arguments):
    return GLib.Variant("s", "ready")
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
interface = Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0]
bus.register_object("/org/modulus1/x_2d1", interface, call, get, None)
Gio.bus_own_name_on_connection(
    bus, "org.modulus1.x_2d1", 0, lambda *_: print("owned", flush=True), lambda *_: exit("lost")
)
GLib.MainLoop().run()
"""


def test_the_bus_lets_nobody_but_root_send_to_an_agent(system: System) -> None:
    """With the distribution's own configuration of the system bus around the policy."""
    (system.root / "root/agent.py").write_text(AGENT)
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    agent = "org.modulus1.x_2d1 /org/modulus1/x_2d1 org.modulus1.Agent"
    read = f"busctl --timeout=5 get-property {agent} Phase"
    rebuild = f"busctl --timeout=5 call {agent} Rebuild"
    own = "python3 -W ignore /tmp/agent.py"
    script = f"""
        mkdir -p /run/dbus && dbus-daemon --system --fork || exit
        cp /root/agent.py /tmp && coproc {{ python3 -W ignore /root/agent.py; }}
        read -r -t 10 word <&"${{COPROC[0]}}"; echo "root owns: $word"
        for user in "" "{nobody}"; do
            $user {read}
            $user {rebuild} && echo called
        done 2>&1
        kill "$COPROC_PID"; wait
        timeout 5 {nobody} {own} 2>&1
    """
    done = system.run("bash", "-c", script)
    lines = done.text.splitlines()
    assert lines[:3] == ["root owns: owned", 's "ready"', "called"], done.text
    assert ["Access denied" in line for line in lines[3:5]] == [True, True]
    assert lines[5:] == ["lost"]
