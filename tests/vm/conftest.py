"""Fixtures of the tests on a virtual machine: its image, its store, what it is given."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.packages import UnavailableError
from tests.support.vm.image import STABLE, Image, base_image, vm_folder
from tests.support.vm.installed import make_installed
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import Store, driver_store, second_store

MakeMachine = Callable[..., Machine]


@pytest.fixture(scope="session")
def codename(request: pytest.FixtureRequest) -> str:
    """The release of the distribution that the nodes have; a test asks for another than the
    stable one by ``parametrize``, indirectly."""
    named: str = getattr(request, "param", STABLE)
    return named


@pytest.fixture(scope="session")
def image(codename: str) -> Image:
    """The bare cloud image."""
    try:
        return base_image(codename)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def store(image: Image) -> Store:
    """The disk with the real driver for the image's kernel, and for the newer one."""
    try:
        return driver_store(image)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def second(image: Image, store: Store) -> Store:
    """The disk with another version of the real driver."""
    try:
        return second_store(image)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def site(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The mirror that nodes get Modulus and the driver from."""
    with Site(tmp_path_factory.mktemp("site"), store) as site:
        yield site


@pytest.fixture(scope="session")
def installed(image: Image, site: Site) -> Iterator[Path]:
    """The disk of a node with Modulus and the settings of ``site`` and nothing enabled, not
    booted yet: for make_machine, where cloud-init is not the matter."""
    with tempfile.TemporaryDirectory(dir=vm_folder()) as folder:
        disk = Path(folder, "installed.img")
        make_installed(disk, image, site)
        yield disk


@pytest.fixture(scope="module")
def make_machine(
    image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeMachine]:
    """Makes machines that are off; takes what Machine takes after its image.

    At the end of the module they are gone, and the ends of their logs are printed.
    """
    with contextlib.ExitStack() as stack:

        def make(start: Image | Path = image, **options: Any) -> Machine:
            disk = start.path if isinstance(start, Image) else start
            machine = Machine(tmp_path_factory.mktemp("machine"), disk, **options)
            stack.callback(lambda: print(machine.tail()))
            return stack.enter_context(machine)

        yield make
