"""Who reads what is known of an instance: generations, states, counts, choices."""

from __future__ import annotations

import json
from pathlib import Path

from modulus.agent.failure_record import FailureRecord
from modulus.agent.prebuild.record import KernelRecord
from modulus.core.agent.backoff import Backoff
from modulus.core.build.proof import Disproof, condemned
from modulus.core.devices.wanted import DeviceNode, Minors, NodeRule, Params, When
from modulus.core.generation.generation import Contents, Identity, manifest_value
from modulus.core.generation.last_good import Good, good_value
from modulus.core.generation.recorded_state import RecordedState
from modulus.core.instance import Instance
from modulus.core.kernel.upcoming import Kernel, Tried
from modulus.core.modules.initramfs import Image, InitramfsRecord, parse_record
from modulus.core.pci import PciMatch
from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.metrics import metrics_text
from modulus.core.status.state import Failure, KernelReady, State
from modulus.core.tree import FileRecord, Link, Tree
from modulus.host.build.proofs import add_disproof, read_disproofs
from modulus.host.files import record
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation import install
from modulus.host.generation.last_good import good_generations
from modulus.host.generation.recorded_state import (
    drift,
    read_recorded_state,
    write_recorded_state,
)
from modulus.host.generation.selected import read_selected
from modulus.host.modules import module_root
from modulus.host.modules.firmware import release_firmware
from modulus.host.status.build_counts import change_record, read_record
from modulus.host.status.files import is_anothers, read_states, write_state
from tests.support.damage import Reader
from tests.support.headertrees import write
from tests.support.readers import EMPTY, KERNEL, NAME, RELEASE, REPORTER, SHA

GENERATION = f"1.0-{RELEASE}-{'c' * 12}-{'0' * 8}"
HOME = f"opt/drivers/.gpu/{GENERATION}"
BUILDS = BuildRecord(1, 2, 3, {RELEASE: 2.5}, (KernelReady(RELEASE, True, False),))
TRIED = Tried({RELEASE: Kernel("inputs", frozenset({SHA}))}, 14, 2, 1e9)
STATE = State(
    NAME, "build", 0.5, 12.0, key=SHA, kernels=BUILDS.kernels, error=Failure(14, "a", "b")
)
RULES = (
    NodeRule("gpu{minor}", ("gpu",), 195, "gpu", None, Minors(("driver/*",), "Minor"),
             params=Params("driver/params", "UID"), when=When("driver/params", "On")),
)  # fmt: skip
WANTED = RecordedState(
    NAME,
    GENERATION,
    ("gpu",),
    {"gpu": "S", "gpu_uvm": None},
    {"gpu": 195},
    f"/{HOME}/firmware",
    {"/etc/modprobe.d/gpu.conf": "blacklist x\n"},
    (PciMatch(0x10DE, 0x0302),),
    {"0000:00:05.0": "gpu"},
    RULES,
    (DeviceNode("/dev/gpu0", 195, 0),),
)
DISPROOF = Disproof("r" * 64, "c" * 64, (SHA,), ("a.o",), "2026-01-01T00:00:00Z")


def _good(root: Path) -> None:
    (root / "var/lib/modulus/gpu").mkdir(parents=True)
    _generation(root)
    entries = good_value([Good(GENERATION, NAME, KERNEL, "2026-01-01T00:00:00Z")])
    write(root / "var/lib/modulus/gpu/good.json", json.dumps(entries))


def _generation(root: Path) -> None:
    identity = Identity(Instance("gpu", "1.0"), "open", KERNEL, "c" * 64, ("compute",))
    tree = Tree((FileRecord("lib/a", SHA, 3, 0o644),), (Link("lib/b", "a"),))
    contents = Contents(identity, "d" * 64, tree)
    value = manifest_value(contents, "2026-01-01T00:00:00Z")
    write(root / HOME / "generation.json", json.dumps(value))
    write(root / HOME / "lib/a", "abc")


def _verify(root: Path) -> object:
    found = install.find_generation(DriverPaths(root, "gpu"), GENERATION)
    return found and install.verify_generation(found, REPORTER)


def _use_builds(root: Path) -> object:
    found = read_record(root, NAME)
    now = found.kernels_now((RELEASE,), RELEASE, False)
    change_record(root, NAME, BuildRecord.with_failed)
    return metrics_text(State(NAME, "ready", kernels=now), found) and found.built


def _use_tried(root: Path) -> object:
    tried = KernelRecord(root, NAME, _never).tried
    kernels = {RELEASE: Kernel("inputs", frozenset({SHA}))}
    assert tried.wait(kernels, 1e9) >= 0
    return tried.then(kernels, 14, 1e9).failures > 1


def _use_failures(root: Path) -> object:
    count = FailureRecord(root, NAME, _never).failed("inputs")
    assert 0 < Backoff().delay(count, 14) <= 3600
    return count > 1


def _never(error: Exception) -> None:
    raise error


def _use_states(root: Path) -> object:
    is_anothers(root, NAME)
    states = read_states(root)
    for state in states:
        assert state.doing is not None
        metrics_text(state, BUILDS)
        json.dumps(state.value())
    return states


def _use_wanted(root: Path) -> object:
    state = read_recorded_state(DriverPaths(root, "gpu"))
    if state:
        drift(root, state)
        assert all(rule.files() for rule in state.rules) in (True, False)
    return state


def _use_initramfs(root: Path) -> object:
    found = record.read_record(DriverPaths(root, "gpu").initramfs, parse_record)
    return found and found.is_of(found.image, ["a"], "b") in (True, False)


def _use_disproofs(root: Path) -> object:
    known = read_disproofs(DriverPaths(root, "gpu"))
    identity = Identity(Instance("gpu", "1.0"), "open", KERNEL, "c" * 64, (), "a" * 64)
    tree = Tree((FileRecord("lib/a", SHA, 3, 0o644),))
    add_disproof(DriverPaths(root, "gpu"), DISPROOF)
    assert DISPROOF in read_disproofs(DriverPaths(root, "gpu"))
    return condemned(Contents(identity, None, tree), known) and known


def _stamp(root: Path) -> None:
    write(root / "stamp.json", json.dumps({"inputs": {"a": 1}, "preload": ["i2c-core"]}))


READERS = (
    Reader("good.json", "var/lib/modulus/gpu/good.json", _good,
           lambda root: good_generations(DriverPaths(root, "gpu"), KERNEL)),
    Reader("generation.json", f"{HOME}/generation.json", _generation, _verify),
    Reader("build counts", f"run/modulus/builds/{NAME}.json",
           lambda root: change_record(root, NAME, lambda _: BUILDS), _use_builds),
    Reader("ahead", f"run/modulus/ahead/{NAME}.json",
           lambda root: write(root / f"run/modulus/ahead/{NAME}.json",
                              json.dumps(TRIED.value())), _use_tried),
    Reader("failures", f"run/modulus/backoff/{NAME}.json",
           lambda root: FailureRecord(root, NAME, _never).failed("inputs"), _use_failures),
    Reader("state", f"run/modulus/{NAME}.json",
           lambda root: write_state(root, STATE), _use_states),
    Reader("wanted.json", "run/modulus/gpu/wanted.json",
           lambda root: write_recorded_state(DriverPaths(root, "gpu"), WANTED), _use_wanted),
    Reader("initramfs.json", "var/lib/modulus/gpu/initramfs.json",
           lambda root: write(root / "var/lib/modulus/gpu/initramfs.json", json.dumps(
               InitramfsRecord(Image("/boot/x", 1, 2), ("a",), "b", ("a",)).value()
           )), _use_initramfs),
    Reader("firmware.json", "var/lib/modulus/gpu/firmware.json",
           lambda root: (write(root / "lib/firmware/a", ""), write(
               root / "var/lib/modulus/gpu/firmware.json",
               json.dumps({"files": {"/lib/firmware/a": EMPTY}, "folders": ["/lib/firmware"]}),
           )), lambda root: release_firmware(DriverPaths(root, "gpu"), REPORTER)),
    Reader("disproofs", "var/lib/modulus/disproved/gpu.json",
           lambda root: add_disproof(DriverPaths(root, "gpu"), DISPROOF), _use_disproofs),
    Reader("module root", "stamp.json", _stamp, lambda root: record.read_record(
        root / "stamp.json", lambda value: module_root._parse(value, {"a": 1}))),
    Reader("selected", "var/lib/modulus/gpu/selected",
           lambda root: write(root / "var/lib/modulus/gpu/selected", f"{NAME}\n"),
           lambda root: read_selected(DriverPaths(root, "gpu"))),
)  # fmt: skip
