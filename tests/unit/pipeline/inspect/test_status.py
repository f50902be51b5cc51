"""Status: which instances a system knows of, what is said of each, and how people see it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.state import KernelReady, State
from modulus.core.store.keys import build_key
from modulus.host.files.atomic import scratch
from modulus.host.generation.install import write_selected
from modulus.host.status.build_counts import change_record, read_record
from modulus.host.status.files import write_state
from modulus.pipeline.build.plan import gather
from modulus.pipeline.inspect.status import record_kernels, status
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support import headertrees
from tests.support.enabling import enable
from tests.support.fakeroot import RELEASE, FakeRoot, make_root
from tests.support.quiet import QUIET

NEXT = "6.1.0-10-amd64"
DRIVER = Instance("driver", "1.0")
PROFILE = """\
name: driver
sources: [{url: "https://example.com/{name}-{version}.tar", format: tar}]
flavours: {open: {dir: driver}}
make: {targets: modules}
build: [driver]
load: [driver]
"""


@pytest.fixture
def fake(tmp_path: Path) -> FakeRoot:
    """A root that runs RELEASE."""
    fake = make_root(tmp_path)
    headertrees.write(fake.root / "proc/sys/kernel/osrelease", f"{RELEASE}\n")
    headertrees.write(fake.root / f"lib/modules/{RELEASE}/modules.builtin", "")
    return fake


def site(root: Path, *assignments: str) -> Site:
    return Site(root, None, assignments, 0)


def test_a_system_without_any_driver_has_no_states(fake: FakeRoot) -> None:
    assert status(site(fake.root)) == ()


def test_every_instance_that_left_a_trace_is_known(fake: FakeRoot) -> None:
    fake.up("1.0")
    write_selected(fake.driver, Instance("driver", "1.1"))
    enable(fake.root, "driver-1.2")
    enable(fake.root, "no instance")
    write_state(fake.root, State("small-0.3", "ready"))
    found = status(site(fake.root))
    assert [state.instance for state in found] == [
        "driver-1.0",
        "driver-1.1",
        "driver-1.2",
        "small-0.3",
    ]
    assert [state.active for state in found] == [True, False, False, False]
    assert [state.selected for state in found] == [False, True, False, False]
    assert [state.phase for state in found] == [None, None, None, "ready"]


def test_what_is_in_place_counts_more_than_what_was_written(fake: FakeRoot) -> None:
    generation = fake.up("1.0")
    claimed = State("driver-1.0", "build", 0.5, 60, since="2024-01-02T03:04:05Z")
    write_state(fake.root, claimed)
    write_state(fake.root, State("driver-0.9", "watch", active=True, selected=True))
    assert status(site(fake.root), DRIVER) == (
        replace(
            claimed,
            active=True,
            selected=True,
            key="c" * 64,
            generation=generation.name,
            kernels=(KernelReady(RELEASE, True, True),),
        ),
    )
    (other,) = status(site(fake.root), Instance("driver", "0.9"))
    assert (other.phase, other.active, other.selected) == (None, False, False)


def test_a_driver_that_is_not_there_any_more_is_not_at_work(fake: FakeRoot) -> None:
    fake.up("1.0")
    write_selected(fake.driver, DRIVER)
    write_state(fake.root, State("driver-1.0", "watch", active=True, selected=True))
    (fake.root / "opt/drivers/driver").resolve().joinpath("generation.json").write_text("{")
    (state,) = status(site(fake.root))
    assert (state.phase, state.active, state.selected) == ("failed", False, True)
    assert [finding.id for finding in state.findings] == ["generation-missing"]
    assert state.error
    assert (state.error.code, state.error.hint) == (19, "modulus up driver-1.0")
    # What is being done about it is told.
    write_state(fake.root, State("driver-1.0", "install", active=True, selected=True))
    (state,) = status(site(fake.root))
    assert (state.phase, state.active) == ("install", False)


def test_the_agent_is_left_what_takes_long_to_find_out(fake: FakeRoot) -> None:
    fake.up("1.0")
    headertrees.write(fake.root / f"lib/modules/{NEXT}/modules.builtin", "")
    change_record(fake.root, str(DRIVER), BuildRecord.with_hit)
    record_kernels(Node(site(fake.root), DRIVER))
    (state,) = status(site(fake.root))
    assert read_record(fake.root, str(DRIVER)) == BuildRecord(hits=1, kernels=state.kernels)
    assert [kernel.ready for kernel in state.kernels] == [True, False]


def test_what_is_built_only_stays_ready(fake: FakeRoot) -> None:
    write_state(fake.root, State("driver-1.0", "ready"))
    (state,) = status(site(fake.root))
    assert state.phase == "ready"


def test_an_instance_nobody_knows_is_not_running(fake: FakeRoot) -> None:
    (state,) = status(site(fake.root), DRIVER)
    assert state == State("driver-1.0", None, kernels=(KernelReady(RELEASE, False, True),))


def test_a_kernel_built_again_under_its_name_is_not_ready(fake: FakeRoot) -> None:
    fake.up()
    headertrees.write(fake.root / "proc/sys/kernel/version", "#2 SMP\n")
    (state,) = status(site(fake.root))
    assert state.kernels == (KernelReady(RELEASE, False, True),)


def test_another_kernel_is_ready_once_its_build_is_stored(
    fake: FakeRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("gcc-12", "ld", "as", "make", "strip"):
        headertrees.write(tmp_path / "bin" / tool, f"#!/bin/sh\necho {tool} 1\n", 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    headertrees.write(fake.root / "etc/modulus/profiles/driver.yaml", PROFILE)
    headertrees.write(fake.root / "etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
    headertrees.debian(fake.root, NEXT)
    headertrees.write(fake.root / f"lib/modules/{NEXT}/modules.builtin", "")
    fake.up()
    checksum = f"checksums={{driver-1.0.tar: {'a' * 64}}}"
    ours = site(fake.root, "build.container=none", checksum)

    def ready() -> dict[str, bool]:
        (state,) = status(ours)
        return {kernel.release: kernel.ready for kernel in state.kernels}

    assert ready() == {RELEASE: True, NEXT: False}
    node = Node(ours, DRIVER)
    node.provisioner.headers(NEXT, QUIET)
    assert ready() == {RELEASE: True, NEXT: False}
    inputs = gather(node, NEXT).inputs
    with scratch(ours.cache / "builds" / NEXT, "build") as folder:
        headertrees.write(folder / "out/driver.ko", "module")
        (folder / "entry").mkdir()
        file = {
            "path": "driver.ko",
            "sha256": hashlib.sha256(b"module").hexdigest(),
            "size": 6,
        }
        manifest = {
            "instance": "driver-1.0",
            "flavour": "open",
            "inputs": inputs,
            "files": [file],
            "finished": "2024-01-02T03:04:05Z",
        }
        key = build_key(inputs) or ""
        ours.store.commit(key, NEXT, folder / "entry", folder / "out", manifest)
    assert ready() == {RELEASE: True, NEXT: True}
