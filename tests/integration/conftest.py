"""Fixtures of the tests with real packages, compilers and containers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from modulus.core.distribution.families import DEBIAN
from modulus.errors import BuildError
from tests.support import packages, runfile
from tests.support.aptworld import World, make_world
from tests.support.archive import SigningKey, add_headers, serving
from tests.support.kernels import Kernels, available
from tests.support.mirror import Mirror
from tests.support.privatebus import PrivateBus, private_bus
from tests.support.system import Done, Node, parts_of, stored

PROFILES = Path(__file__).parents[2] / "profiles"


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """The kernels that apt has headers of."""
    try:
        return available()
    except packages.UnavailableError as error:
        # Without the archive there is nothing real to build; "driver" and "nspawn" fail then.
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def vendor() -> Iterator[Mirror]:
    """A mirror in the vendor's layout of folders."""
    with Mirror() as mirror:
        yield mirror


def vendor_path(version: str) -> str:
    """Where the vendor has the data-centre driver of ``version``."""
    return f"/tesla/{version}/NVIDIA-Linux-x86_64-{version}.run"


@pytest.fixture(scope="session")
def driver(vendor: Mirror) -> str:
    """The version of the current driver, which the mirror has with its checksum."""
    try:
        path, version = runfile.nvidia_run()
    except packages.UnavailableError as error:
        # The vendor's packages may be out of reach; where "driver" is required this fails.
        pytest.skip(str(error))
    return _serve(vendor, path, version)


@pytest.fixture(scope="session")
def open_driver(vendor: Mirror) -> str:
    """The newest version that the distribution has the open flavour of, from the mirror."""
    try:
        path, version = runfile.open_run()
    except packages.UnavailableError as error:
        # As above.
        pytest.skip(str(error))
    return _serve(vendor, path, version)


def _serve(vendor: Mirror, path: Path, version: str) -> str:
    vendor.serve(vendor_path(version), path)
    vendor.serve_checksum(vendor_path(version))
    return version


@pytest.fixture(scope="session")
def mirrors(vendor: Mirror) -> list[dict[str, object]]:
    """The setting that names the mirror."""
    url = f"{vendor.url}/tesla/{{version}}/NVIDIA-Linux-{{arch}}-{{version}}.run"
    return [{"url": url, "trusted": True}]


@dataclass(frozen=True)
class Whole:
    """A build of the real driver by ``node`` for its kernel, and how it ended."""

    node: Node
    release: str
    done: Done
    digests: dict[str, str]

    @property
    def key(self) -> str:
        (result,) = self.done.json["results"]
        return str(result["key"])

    @property
    def log(self) -> str:
        (result,) = self.done.json["results"]
        return Path(result["path"], "build.log").read_text()


def build_whole(path: Path, driver: str, release: str, **settings: Any) -> Whole:
    """Builds the version ``driver`` on a node of its own at ``path``."""
    return build_on(Node(path, release, **settings), driver, release)


def build_open(path: Path, driver: str, release: str, **settings: Any) -> Whole:
    """The same of the open flavour.

    A distribution may update its kernels and leave this one behind: where its sources do not
    compile the vendor's way either, the test is expected to fail.
    """
    settings["flavour"] = "open"
    node = Node(path, release, **settings)
    done = node.run("build", f"nvidia-{driver}", "--json")
    if done.status == BuildError.code and (why := re.search(_MISFIT, done.stderr)):
        plain = vendors_node(path.with_name("plain"), release, **settings)
        done = plain.run("build", f"nvidia-{driver}", "--json")
        assert re.search(_MISFIT, done.stderr), f"only the shortcuts fail: {why[0]}"
        pytest.xfail(f"nvidia-{driver}, the distribution's newest open one: {why[0]}")
    return ended(node, done, release)


_MISFIT = "the sources do not fit kernel .*"


def build_vendors(path: Path, driver: str, release: str, **settings: Any) -> Whole:
    """The same as the vendor's package builds it by itself."""
    return build_on(vendors_node(path, release, **settings), driver, release)


def vendors_kept(path: Path, driver: str, release: str, **settings: Any) -> Whole:
    """The same, perhaps from an earlier run of the tests.

    The last such build of ``driver`` is kept. It is a hit only under its key, which covers all
    that makes it: where any of that has changed, the slow way is taken again.
    """
    node = vendors_node(path, release, **settings)
    kept = packages.cache_folder() / "vendors" / driver
    with packages.locked("vendors"):
        if kept.exists():
            shutil.copytree(kept, node.cache, dirs_exist_ok=True)
        built = build_on(node, driver, release)
        (entry,) = (each for each in stored(node.cache) if each.key == built.key)
        shutil.rmtree(kept, ignore_errors=True)
        for part in parts_of(entry):
            target = kept / part.relative_to(node.cache)
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if part.is_dir() else shutil.copyfile)(part, target)
    return built


def vendors_node(path: Path, release: str, **settings: Any) -> Node:
    """A node that builds the driver as the vendor's package does by itself."""
    profile = yaml.safe_load((PROFILES / "nvidia.yaml").read_text())
    del profile["files"], profile["make"]["batch"]
    node = Node(path, release, **settings)
    own = path / "etc/modulus/profiles/nvidia.yaml"
    own.parent.mkdir()
    own.write_text(yaml.safe_dump(profile))
    return node


def build_on(node: Node, driver: str, release: str) -> Whole:
    """Builds the version ``driver`` on ``node``, which has built nothing yet."""
    return ended(node, node.run("build", f"nvidia-{driver}", "--json"), release)


def ended(node: Node, done: Done, release: str) -> Whole:
    """A build that went well."""
    assert done.status == 0, done.stderr
    return Whole(node, release, done, node.digests(release))


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    mirrors: list[dict[str, object]],
    driver: str,
    kernels: Kernels,
) -> Whole:
    """The current driver, for the newest kernel of the stable series: built once for all."""
    path = tmp_path_factory.mktemp("whole") / "node"
    settings: dict[str, Any] = {"mirrors": mirrors, "build": {"container": "nspawn"}}
    return build_whole(path, driver, kernels.newest(), **settings)


@pytest.fixture(scope="session")
def opened(
    tmp_path_factory: pytest.TempPathFactory,
    mirrors: list[dict[str, object]],
    open_driver: str,
    kernels: Kernels,
) -> Whole:
    """The open flavour, for the oldest kernel of the stable series: built once for all."""
    path = tmp_path_factory.mktemp("opened") / "node"
    return build_open(path, open_driver, kernels.of()[-1], mirrors=mirrors)


@pytest.fixture(scope="session")
def instance() -> str:
    """A small real driver in the distribution's version."""
    version = packages.candidate("v4l2loopback-dkms").partition("-")[0]
    return f"v4l2loopback-{version}"


@pytest.fixture
def node(tmp_path: Path, kernels: Kernels) -> Node:
    """A node that runs the newest kernel of the stable series."""
    return Node(tmp_path / "node", kernels.newest())


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    """A bus that does not run yet."""
    with private_bus(tmp_path / "run/dbus", monkeypatch) as bus:
        yield bus


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node's root with the folder of a kernel, and no more."""
    root = tmp_path / "root"
    kernel = root / "lib/modules/6.1.0-1-amd64"
    kernel.mkdir(parents=True)
    (kernel / "modules.builtin").touch()
    return root


@pytest.fixture(scope="module")
def key() -> Iterator[SigningKey]:
    key = SigningKey()
    yield key
    key.close()


@pytest.fixture(scope="module")
def stranger() -> Iterator[SigningKey]:
    """The key of somebody who is not the distribution."""
    key = SigningKey()
    yield key
    key.close()


@pytest.fixture
def world(tmp_path: Path, key: SigningKey) -> Iterator[World]:
    with serving(tmp_path / "archive") as server:
        yield make_world(tmp_path, key, server, DEBIAN, "bookworm")


@pytest.fixture
def with_headers(world: World) -> World:
    add_headers(world.archive, world.base / "made")
    world.archive.publish()
    return world
