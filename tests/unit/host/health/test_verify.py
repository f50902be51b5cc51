"""What a root shows of a driver, and what is said of it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modulus.core.config.schema_types import Problems
from modulus.core.config.settings import Settings
from modulus.core.generation.ldcache import find_library, parse_ldcache
from modulus.core.profile.profile import Profile
from modulus.core.profile.schema import parse_profile
from modulus.host.config.load import load_settings
from modulus.host.generation.install import Generation
from modulus.host.gpu.census import take_census
from modulus.host.health.verify import verify
from modulus.host.modules.load import Loaded, WantedModule
from tests.support.fakeroot import NAME, FakeRoot, make_root
from tests.support.fakesys import FakeSys

PROFILE: dict[str, Any] = {
    "name": NAME,
    "sources": [{"url": "https://example.com/x", "format": "tar"}],
    "flavours": {"open": {"dir": "x"}},
    "build": [NAME],
    "load": [NAME],
    "make": {"targets": "modules"},
    "pci": [{"vendor": 0x10DE, "class": 0x0302}],
}
LIBRARY: dict[str, Any] = {"name": "libd.so.1", "version_of": NAME}
MOUNTS = "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
NOEXEC = "23 22 254:2 / /opt rw,noexec - ext4 /dev/vdb rw\n"


class Node:
    """A root with an active driver, a GPU that is bound to it, and all of it right."""

    def __init__(self, folder: Path) -> None:
        self.fake: FakeRoot = make_root(folder)
        self.root = self.fake.root
        self.generation: Generation = self.fake.up()
        self.fake.update_linker(self.generation)
        self.sys = FakeSys(self.root)
        self.sys.device(driver=NAME, numa_node="0")
        self.write("proc/self/mountinfo", MOUNTS)
        self.write("sys/devices/system/node/online", "0\n")
        self.settings: Settings = load_settings(
            self.root, config=None, environ={}, assignments=(), driver=NAME
        )

    @property
    def library(self) -> Path:
        """The file of the driver's library."""
        return self.generation.path / "lib/libd.so.1.0"

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def profile(self, **library: Any) -> Profile:
        value = PROFILE | {"libraries": [LIBRARY | library]}
        lines: list[str] = []
        profile = parse_profile(value, NAME, Problems("", lines))
        assert profile, lines
        return profile

    def verify(
        self, level: str = "usable", *, state: str = "live", asking: bool = True, **library: Any
    ) -> list[str]:
        profile = self.profile(**library)
        found = verify(
            self.root,
            profile,
            self.settings,
            self.generation,
            wanted=[WantedModule(NAME, Path("x.ko"), "1.0", "A")],
            loaded={NAME: Loaded(NAME, "1.0", "A", 0, (), state)} if state else {},
            census=take_census(self.root, profile),
            level=level,
            ask_libraries=asking,
        )
        return [f"{one.id}: {one.message}" for one in found]

    def have_c_library(self) -> None:
        """Puts a library that can be asked into the place of the driver's."""
        cache = parse_ldcache(Path("/etc/ld.so.cache").read_bytes())
        real = find_library("libc.so.6", platform.machine(), cache)
        assert real
        self.library.unlink()
        self.library.symlink_to(real)
        # The link has a target within the root too.
        self.write(real.lstrip("/"), "")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_driver_that_is_right(node: Node) -> None:
    assert node.verify() == []


def remove_library(node: Node) -> None:
    node.library.unlink()


def make_a_circle(node: Node) -> None:
    node.library.unlink()
    node.library.symlink_to(node.library.name)


def remove_cache(node: Node) -> None:
    (node.root / "etc/ld.so.cache").unlink()


def damage_cache(node: Node) -> None:
    (node.root / "etc/ld.so.cache").write_text("nonsense")


def install_another(node: Node) -> None:
    """A distribution's library, in a folder that comes first."""
    (node.root / "etc/ld.so.conf.d/a.conf").write_text("/usr/lib/first\n")
    (node.root / "usr/lib/first").mkdir(parents=True)
    shutil.copy(node.library, node.root / "usr/lib/first/libd.so.1")
    remove_cache(node)
    node.fake.update_linker(node.generation)


def remove_another(node: Node) -> None:
    install_another(node)
    shutil.rmtree(node.root / "usr/lib/first")


def mount_noexec(node: Node) -> None:
    node.write("proc/self/mountinfo", MOUNTS + NOEXEC)


def mount_noexec_for_all(node: Node) -> None:
    node.write("proc/1/mountinfo", MOUNTS + NOEXEC)


def move_opt(node: Node) -> None:
    """As where the root's file system is an image that is not written to."""
    (node.root / "var").mkdir(exist_ok=True)
    (node.root / "opt").rename(node.root / "var/opt")
    (node.root / "opt").symlink_to("var/opt")
    path = node.root / "var/opt" / node.generation.path.relative_to(node.root / "opt")
    node.generation = replace(node.generation, path=path)
    node.write("proc/self/mountinfo", MOUNTS + NOEXEC.replace("/opt", "/var/opt"))


def lose_numa_node(node: Node) -> None:
    node.sys.device("0000:00:06.0", driver=NAME, numa_node="-1")


@pytest.mark.parametrize(
    ("happening", "expected"),
    [
        (remove_library, ["library-missing: /opt/drivers/driver/lib/libd.so.1 is gone"]),
        (make_a_circle, ["library-missing: /opt/drivers/driver/lib/libd.so.1 is gone"]),
        (remove_cache, ["library-unresolved: the dynamic linker does not find libd.so.1"]),
        (damage_cache, ["library-unresolved: the dynamic linker does not find libd.so.1"]),
        (
            install_another,
            [
                "library-unresolved: programs get another libd.so.1 than the driver's: "
                "/usr/lib/first/libd.so.1"
            ],
        ),
        (remove_another, ["library-unresolved: the dynamic linker does not find libd.so.1"]),
        (mount_noexec, ["opt-noexec: nothing in /opt/drivers/driver/lib can be run"]),
        (mount_noexec_for_all, ["opt-noexec: nothing in /opt/drivers/driver/lib can be run"]),
        (move_opt, ["opt-noexec: nothing in /opt/drivers/driver/lib can be run"]),
        (lose_numa_node, ["numa-node: the NUMA node of GPU 0000:00:06.0 10de:20b0 is -1"]),
    ],
)
def test_what_happens_to_a_node(
    node: Node, happening: Callable[[Node], None], expected: list[str]
) -> None:
    happening(node)
    assert node.verify() == expected
    assert node.verify("nodes") == []


@pytest.mark.parametrize("kept", ["proc", "sys"])
def test_a_root_that_shows_little(node: Node, kept: str) -> None:
    shutil.rmtree(node.root / kept)
    assert node.verify() == []


def test_the_c_library_in_place_of_a_drivers(node: Node) -> None:
    node.have_c_library()
    assert node.verify(init="abs", arguments=[0], device="atoi") == []
    node.sys.device("0015:00:06.0", driver=NAME, numa_node="0")
    assert node.verify(init="abs", arguments=[0], device="atoi", text="strerror") == [
        "gpu-dead: GPU 0015:00:06.0 does not work: atoi says 15 (Block device required)"
    ]
    assert node.verify(init="abs", arguments=[3]) == ["library-call: abs of libd.so.1 says 3"]
    assert node.verify(init="raise", arguments=[11]) == [
        "library-call: libd.so.1 cannot be asked"
    ]


@pytest.mark.parametrize("state", ["", "coming"])
def test_a_library_is_not_asked_without_its_modules(node: Node, state: str) -> None:
    """It might load some itself, and not ours."""
    node.have_c_library()
    (finding,) = node.verify(init="abs", arguments=[3], state=state)
    assert finding == f"module-missing: module {NAME} is not loaded"
    assert node.verify(init="abs", arguments=[3], asking=False) == []


def test_a_gpu_that_another_driver_has_is_not_asked_about(node: Node) -> None:
    node.have_c_library()
    shutil.rmtree(node.root / "sys")
    node.sys.device("0015:00:06.0", driver="rival")
    assert node.verify(init="abs", arguments=[0], device="atoi") == [
        "no-gpu-usable: no GPU is bound to the driver"
    ]


def test_what_is_not_among_the_components_is_not_missed(node: Node) -> None:
    assert node.verify(name="libother.so.1") == []
    assert node.verify(name="libother.so.1", init="abs", device="atoi") == [
        "library-absent: no GPU was asked whether it works"
    ]
    assert node.verify("nodes", name="libother.so.1", init="abs", device="atoi") == []


def test_a_library_that_is_gone_is_not_asked(node: Node) -> None:
    node.library.unlink()
    assert node.verify(init="abs") == [
        "library-missing: /opt/drivers/driver/lib/libd.so.1 is gone"
    ]


def test_labels_count_where_selinux_is_on(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {str(node.library): b"system_u:object_r:unlabeled_t:s0\0"}

    def getxattr(path: Path, name: str) -> bytes:
        assert name == "security.selinux"
        return labels[str(path)]

    monkeypatch.setattr(os, "getxattr", getxattr)
    assert node.verify() == []
    node.write("sys/fs/selinux/enforce", "0")
    assert node.verify() == [
        "selinux-label: /opt/drivers/driver/lib/libd.so.1 has the SELinux type unlabeled_t"
    ]
    monkeypatch.undo()
    assert node.verify() == []
