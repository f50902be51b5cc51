"""Kernels of other archives than the distribution's, by the real apt."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from modulus.errors import ToolchainError
from tests.support.aptworld import World, another
from tests.support.archive import SigningKey
from tests.support.headertrees import write

pytestmark = pytest.mark.integration

PVE = "6.8.12-4-pve"
HEADERS = f"proxmox-headers-{PVE}"
KEY = "etc/apt/keyrings/proxmox.gpg"
FILE = "proxmox.sources"


@pytest.fixture
def foreign(world: World, stranger: SigningKey) -> World:
    """A node that has an archive of another maker's kernels in its apt sources."""
    world.archive.publish()
    another(world, "pve", stranger, PVE, package=HEADERS)
    stranger.public(world.root / KEY)
    entry(world, f"Signed-By: /{KEY}")
    return world


def entry(world: World, *more: str) -> Path:
    """The entry of the other archive, with ``more`` lines."""
    lines = ("Types: deb", f"URIs: {world.server.url}/pve", "Suites: pve", "Components: main")
    path = world.root / "etc/apt/sources.list.d" / FILE
    return write(path, "".join(f"{line}\n" for line in (*lines, *more)))


def update(world: World) -> None:
    """What the node's own apt-get update leaves, if it is run on the node."""
    root = world.root
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    write(root / "var/lib/dpkg/status", "")
    options = f'Dir "{root}"; Dir::Cache "{root}/tmp"; APT::Sandbox::User "root";\n'
    config = write(root / "apt.conf", options)
    (root / "tmp/archives/partial").mkdir(parents=True)
    # From here its key has another path. The distribution's own has none that is found.
    path = entry(world, f"Signed-By: {root}/{KEY}")
    command = ["apt-get", "update", "-qq", "-o", f"Dir::Etc::SourceParts={path.parent}"]
    environment = {**os.environ, "APT_CONFIG": str(config)}
    subprocess.run(command, env=environment, check=False, capture_output=True)
    entry(world, f"Signed-By: /{KEY}")


def test_the_source_that_has_it_is_named(foreign: World) -> None:
    update(foreign)
    with pytest.raises(ToolchainError) as caught:
        foreign.provisioner().headers(PVE, foreign.reporter)
    assert caught.value.message.endswith(
        f"{HEADERS} is in the apt source /etc/apt/sources.list.d/{FILE}, which is not the "
        "distribution's"
    )
    assert caught.value.hint == (
        f"install {HEADERS}, or trust that source and its key for headers: "
        f"kernel_sources: [{FILE}]"
    )
    assert foreign.server.debs() == []


def test_a_node_that_never_updated(foreign: World) -> None:
    """Where nobody knows who has it, only what the distribution has can be told."""
    with pytest.raises(ToolchainError, match=f"bookworm has no linux-headers-{PVE}$"):
        foreign.provisioner().headers(PVE, foreign.reporter)


@pytest.mark.parametrize("package", [HEADERS, f"linux-headers-{PVE}"])
def test_a_source_that_is_trusted_by_name(
    foreign: World, stranger: SigningKey, package: str
) -> None:
    another(foreign, "pve", stranger, PVE, package=package)
    provisioner = foreign.provisioner(kernel_sources=[FILE])
    assert provisioner.headers(PVE, foreign.reporter).origin == "packages"
    assert foreign.provisioner(offline=True).headers_recorded(PVE)


def test_its_key_may_stand_in_the_file(foreign: World) -> None:
    command = ["gpg", "--enarmor", "-o", "-", str(foreign.root / KEY)]
    armoured = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = armoured.replace("PGP ARMORED FILE", "PGP PUBLIC KEY BLOCK").splitlines()
    text = [f" {line or '.'}" for line in lines if not line.startswith("Comment")]
    entry(foreign, "Signed-By:", *text)
    provisioner = foreign.provisioner(kernel_sources=[FILE])
    assert provisioner.headers(PVE, foreign.reporter).origin == "packages"


def test_another_key_does_not_do(foreign: World, key: SigningKey) -> None:
    (foreign.root / KEY).unlink()
    key.public(foreign.root / KEY)
    with pytest.raises(ToolchainError) as caught:
        foreign.provisioner(kernel_sources=[FILE]).headers(PVE, foreign.reporter)
    assert "signed" in caught.value.hint
    assert foreign.server.debs() == []


def test_nothing_else_is_taken_from_it(foreign: World, stranger: SigningKey) -> None:
    """A compiler, or a driver's sources, come from the distribution alone."""
    archive = another(foreign, "pve", stranger, PVE, package=HEADERS)
    archive.add("v4l2loopback-dkms", "0.99-1")
    archive.publish()
    provisioner = foreign.provisioner(kernel_sources=[FILE])
    provisioner.headers(PVE, foreign.reporter)
    foreign.server.requests.clear()
    with pytest.raises(Exception, match="has no v4l2loopback-dkms"):
        provisioner.source_package("v4l2loopback-dkms", "0.99", foreign.reporter)
    assert foreign.server.debs() == []


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ((), "names no key at all"),
        (("Signed-By: /etc/apt/keyrings/missing.gpg",), "names /etc/apt/keyrings/missing"),
        (("Signed-By: AB12AB12AB12AB12AB12AB12AB12AB12AB12AB12",), "names AB12"),
        ((f"Signed-By: /{KEY}", "Trusted: yes"), "marked trusted"),
        ((f"Signed-By: /{KEY}", "Enabled: no"), "which none of the node's apt sources"),
    ],
)
def test_what_cannot_be_trusted_by_name(
    foreign: World, more: tuple[str, ...], reason: str
) -> None:
    entry(foreign, *more)
    with pytest.raises(ToolchainError, match=reason) as caught:
        foreign.provisioner(kernel_sources=[FILE]).headers(PVE, foreign.reporter)
    assert caught.value.hint
    assert foreign.server.debs() == []
