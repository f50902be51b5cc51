"""What dpkg has done: its record, and what it has not written into it yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import modulus
from modulus.host.distribution.dpkg_status import installed_versions, unfinished
from modulus.host.kernel.facts import being_installed
from tests.support.headertrees import write

IMAGE = "linux-image-6.12.1-amd64"


def stanza(state: str, version: str = "2", package: str = IMAGE) -> str:
    return f"Package: {package}\nStatus: install ok {state}\nVersion: {version}\n"


def node(root: Path, status: str, *updates: str) -> Path:
    write(root / "var/lib/dpkg/status", status)
    for number, text in enumerate(updates):
        write(root / f"var/lib/dpkg/updates/{number:04}", text)
    return root


@pytest.mark.parametrize(
    ("state", "done"),
    [
        ("installed", True),
        ("config-files", True),
        ("not-installed", True),
        ("half-installed", False),
        ("unpacked", False),
        ("half-configured", False),
        ("triggers-awaited", False),
        ("triggers-pending", False),
    ],
)
def test_what_dpkg_is_not_done_with(tmp_path: Path, state: str, done: bool) -> None:
    node(tmp_path, stanza("installed", package="other") + "\n" + stanza(state))
    assert unfinished(tmp_path, ["other", IMAGE, "absent"]) == (() if done else (IMAGE,))


def test_a_change_that_the_record_does_not_have_yet_counts(tmp_path: Path) -> None:
    node(tmp_path, stanza("installed", "1"), stanza("unpacked"), stanza("half-configured"))
    # This one is still being written.
    write(tmp_path / "var/lib/dpkg/updates/tmp.i", stanza("installed"))
    assert installed_versions(tmp_path, [IMAGE]) == {}
    assert unfinished(tmp_path, [IMAGE]) == (IMAGE,)
    write(tmp_path / "var/lib/dpkg/updates/0002", stanza("installed"))
    assert installed_versions(tmp_path, [IMAGE]) == {IMAGE: "2"}
    assert unfinished(tmp_path, [IMAGE]) == ()


def test_a_change_is_read_without_following_or_waiting(tmp_path: Path) -> None:
    node(tmp_path, stanza("installed"))
    updates = tmp_path / "var/lib/dpkg/updates"
    write(tmp_path / "elsewhere", stanza("unpacked"))
    updates.mkdir()
    (updates / "0000").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(updates / "0001")
    assert unfinished(tmp_path, [IMAGE]) == ()


def test_a_kernels_packages(tmp_path: Path) -> None:
    write(tmp_path / "etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n")
    write(tmp_path / "proc/sys/kernel/arch", "x86_64\n")
    headers = "linux-headers-6.12.1-amd64"
    node(tmp_path, stanza("unpacked") + "\n" + stanza("half-installed", package=headers))
    assert being_installed(tmp_path, ["6.12.1-amd64"]) == (IMAGE, headers)
    assert being_installed(tmp_path, ["6.12.2-amd64"]) == ()
    write(tmp_path / "etc/os-release", "ID=arch\n")
    assert being_installed(tmp_path, ["6.12.1-amd64"]) == ()


ASK = f"""
import json, pathlib, sys
from modulus.host.distribution.dpkg_status import installed_versions, unfinished
root = pathlib.Path(sys.argv[1])
answers = [told(root, ["{IMAGE}"]) for told in (unfinished, installed_versions)]
print("told", json.dumps(answers))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="installs a package")
def test_dpkg_itself_in_a_packages_script(tmp_path: Path) -> None:
    """What a hook of a kernel's package could see, and afterwards."""
    package, root = tmp_path / "package", tmp_path / "root"
    control = f"Package: {IMAGE}\nVersion: 2\nArchitecture: all\n"
    control += "Maintainer: a <a@example.com>\nDescription: a kernel\n"
    write(package / "DEBIAN/control", control)
    write(tmp_path / "ask.py", ASK)
    script = f"#!/bin/sh\nexec {sys.executable} {tmp_path}/ask.py {root}\n"
    write(package / "DEBIAN/postinst", script)
    (package / "DEBIAN/postinst").chmod(0o755)
    (root / "var/lib/dpkg/updates").mkdir(parents=True)
    write(root / "var/lib/dpkg/status", "")
    archive = tmp_path / "a.deb"
    subprocess.run(["dpkg-deb", "--build", package, archive], check=True, capture_output=True)
    options = [f"--root={root}", "--force-script-chrootless", "--log=/dev/null"]
    done = subprocess.run(
        ["dpkg", *options, "-i", archive],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(modulus.__file__).parents[1])},
    )
    told = next(line for line in done.stdout.splitlines() if line.startswith("told "))
    assert json.loads(told[5:]) == [[IMAGE], {}]
    assert unfinished(root, [IMAGE]) == ()
    assert installed_versions(root, [IMAGE]) == {IMAGE: "2"}
