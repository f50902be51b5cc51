"""What status asks of a system, and how people see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.cli.status_text import status_text
from modulus.core.findings import Finding
from modulus.core.instance import Instance
from modulus.core.status.state import Failure, KernelReady, State
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.enabled import (
    enabled_instances,
    selected_instance,
    selected_instances,
)
from modulus.host.generation.install import write_selected
from modulus.host.kernel.next_boot import default_kernel
from tests.support import headertrees
from tests.support.enabling import enable
from tests.support.fakeroot import RELEASE

NEXT = "6.1.0-10-amd64"
DRIVER = Instance("driver", "1.0")


@pytest.mark.parametrize(
    ("links", "release"),
    [
        ({}, "6.1.0-10-amd64"),
        ({"vmlinuz": "boot/vmlinuz-6.1.0-9-amd64"}, "6.1.0-9-amd64"),
        ({"boot/vmlinuz": "vmlinuz-6.1.0-9-amd64"}, "6.1.0-9-amd64"),
        ({"vmlinuz": "boot/vmlinuz-6.1.0-8-amd64"}, "6.1.0-10-amd64"),
        (
            {
                "vmlinuz": "boot/vmlinuz-6.1.0-8-amd64",
                "boot/vmlinuz": "vmlinuz-6.1.0-9-amd64",
            },
            "6.1.0-9-amd64",
        ),
    ],
)
def test_the_next_boots_kernel(tmp_path: Path, links: dict[str, str], release: str) -> None:
    for path, target in links.items():
        headertrees.link(tmp_path / path, target)
    assert default_kernel(tmp_path, ("6.1.0-9-amd64", "6.1.0-10-amd64")) == release


def test_without_kernels_none_is_next(tmp_path: Path) -> None:
    assert default_kernel(tmp_path, ()) is None


def test_instances_are_enabled_by_a_targets_wants(tmp_path: Path) -> None:
    enable(tmp_path, "driver-1.0")
    enable(tmp_path, "driver")
    link = "run/systemd/system/kubelet.service.requires/modulus@small-0.3.service"
    headertrees.link(tmp_path / link, "/dev/null")
    headertrees.link(tmp_path / "etc/systemd/system/modulus@linked-1.service", "x")
    assert enabled_instances(tmp_path) == (DRIVER, Instance("small", "0.3"))


@pytest.mark.parametrize("text", ["", "driver", "other-1.0\n", "../x-1\n", "\xff"])
def test_what_selects_nothing_is_nothing(tmp_path: Path, text: str) -> None:
    driver = DriverPaths(tmp_path, "driver")
    headertrees.write(tmp_path / "var/lib/modulus/driver/selected").write_bytes(
        text.encode("latin-1")
    )
    assert selected_instance(driver) is None
    assert selected_instances(tmp_path) == ()


def test_what_was_selected_is_read_back(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "driver")
    assert selected_instance(driver) is None
    write_selected(driver, DRIVER)
    assert selected_instance(driver) == DRIVER
    assert selected_instances(tmp_path) == (DRIVER,)


TEXT = """\
driver-1.0
       Phase: build: 43 %, 0:52 left since 2024-01-02T03:04:05Z
    Selected: yes
      Active: yes
  Generation: 1.0-6.1.0-9-amd64-kkkk-0
         Key: cccccccccccc
     Kernels: 6.1.0-9-amd64   ready
              6.1.0-10-amd64  not ready, booted next
      Reboot: held up to 15:00 min while modules are built
     Warning: a node is missing
         Fix: run modulus up driver-1.0
       Error: the first line
              the second (exit code 10)
        Hint: correct it

small-0.3
       Phase: not running
    Selected: no
      Active: no"""


def test_people_see_a_block_for_each() -> None:
    states = (
        State(
            "driver-1.0",
            "build",
            0.43,
            52,
            active=True,
            selected=True,
            key="c" * 64,
            generation="1.0-6.1.0-9-amd64-kkkk-0",
            kernels=(KernelReady(RELEASE, True, False), KernelReady(NEXT, False, True)),
            findings=(
                Finding(
                    "missing-node",
                    "nodes",
                    "warning",
                    "a node is missing",
                    "removed",
                    "run modulus up driver-1.0",
                ),
            ),
            error=Failure(10, "the first line\nthe second", "correct it"),
            since="2024-01-02T03:04:05Z",
            hold_s=900.0,
        ),
        State("small-0.3", None, since="2024-01-02T03:04:05Z"),
    )
    assert status_text(states) == TEXT


def test_people_are_told_where_there_is_nothing() -> None:
    assert "modulus up INSTANCE" in status_text(())
