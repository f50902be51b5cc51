from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.config.schema_types import Problems
from modulus.core.gpu.census import Census, Gpu, has_signature, kind_of, no_gpu, vgpu_findings
from modulus.core.pci import PciDevice
from modulus.core.profile.profile import Profile
from modulus.core.profile.schema import parse_profile
from modulus.host.config.load import load_profile
from modulus.host.gpu.census import bind_free, fix_numa, take_census
from modulus.host.kernel.probe import pci_devices
from modulus.host.report.reporter import PlainReporter
from tests.support.fakesys import FakeSys, pci_config
from tests.support.headertrees import write
from tests.unit.core.profile.test_profile import changed, parse

KEYS: dict[str, Any] = {
    "pci": [{"vendor": 0x10DE, "class": 0x0302}, {"vendor": 0x10DE, "class": 0x0300}],
    "vgpu": {"signature": "VF"},
}


def profile(**keys: Any) -> Profile:
    found = parse_profile(changed(**(KEYS | keys)), "one", Problems())
    assert found
    return found


@pytest.fixture
def node(tmp_path: Path) -> FakeSys:
    return FakeSys(tmp_path)


def only(node: FakeSys) -> Gpu:
    (gpu,) = take_census(node.root, profile()).gpus
    return gpu


def test_what_a_gpu_is_said_to_be(node: FakeSys) -> None:
    node.device(driver="Rival:rival_core", numa_node="-1")
    node.device("0000:00:06.0", "10de:1eb8", "0x030000")
    node.device("0000:00:07.0", "8086:20b0")
    node.device("0000:00:08.0", "10de:10f0", "0x040300")
    one, two = take_census(node.root, profile()).gpus
    assert (one.address, one.driver, one.module) == ("0000:00:05.0", "Rival", "rival_core")
    assert (one.kind, one.numa_node) == ("gpu", -1)
    assert (two.address, two.driver, two.numa_node) == ("0000:00:06.0", None, None)


def test_a_bus_that_was_read_is_not_read_again(node: FakeSys) -> None:
    node.device()
    devices = pci_devices(node.root)
    node.device("0000:00:06.0")
    assert len(take_census(node.root, profile(), devices).gpus) == 1
    assert len(take_census(node.root, profile()).gpus) == 2


def test_a_driver_that_needs_no_gpu_misses_none(node: FakeSys) -> None:
    node.device()
    plain, _ = parse(changed())
    assert plain
    found = take_census(node.root, plain)
    assert (found.missing, found.gpus) == (False, ())
    assert take_census(node.root / "nothing", profile()).missing


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"driver": "vfio-pci:vfio_pci"}, "passthrough"),
        ({"driver": "pci-stub"}, "passthrough"),
        ({"driver": "pciback:xen_pciback"}, "passthrough"),
        ({"driver": "vendor-vfio-pci"}, "passthrough"),
        ({"driver_override": "vfio-pci"}, "passthrough"),
        ({"driver_override": "(null)"}, "gpu"),
        ({"driver_override": "rival"}, "gpu"),
        ({"driver": "rival"}, "gpu"),
        ({"physfn": "x"}, "virtual-function"),
        ({"physfn": "x", "driver": "vfio-pci:vfio_pci"}, "passthrough"),
        ({"config": pci_config(b"VF\0535.1")}, "vgpu"),
        ({"config": pci_config(b"xx", b"VF")}, "vgpu"),
        ({"config": pci_config(b"xVF")}, "gpu"),
        ({"config": pci_config(b"VF", flags=0)}, "gpu"),
        ({"config": pci_config(b"VF")[:64]}, "gpu"),
    ],
)
def test_kinds(node: FakeSys, attributes: dict[str, Any], kind: str) -> None:
    node.device(**attributes)
    assert only(node).kind == kind


def test_a_circle_of_capabilities_ends() -> None:
    config = bytearray(pci_config(b"xx"))
    config[0x61] = 0x40
    assert not has_signature(bytes(config), "VF")


@given(st.binary(max_size=256), st.integers(0, 255))
def test_any_configuration_space_is_read(config: bytes, first: int) -> None:
    space = bytearray(config.ljust(256, b"\0"))
    space[0x06], space[0x34] = 0x10, first
    assert not has_signature(bytes(space), "no such thing")
    has_signature(config, "VF")


def census(*kinds: str) -> Census:
    return Census(
        True,
        tuple(
            Gpu(PciDevice(f"0000:00:{n:02x}.0", 0x10DE, 0x20B0, 0x030200), kind)
            for n, kind in enumerate(kinds, 5)
        ),
    )


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        ([], "no GPU"),
        (["gpu"], "1 GPU (0000:00:05.0 10de:20b0)"),
        (
            ["gpu", "gpu", "passthrough"],
            "2 GPUs (0000:00:05.0 10de:20b0, 0000:00:06.0 10de:20b0), 1 passed through",
        ),
        (["passthrough"], "no GPU, 1 passed through"),
        (["vgpu"], "1 virtual GPU (0000:00:05.0 10de:20b0)"),
        (
            ["gpu", "virtual-function", "virtual-function"],
            "1 GPU (0000:00:05.0 10de:20b0), 2 virtual functions",
        ),
    ],
)
def test_the_census_in_a_line(kinds: list[str], text: str) -> None:
    assert census(*kinds).text == text


def test_what_is_usable() -> None:
    found = census("gpu", "passthrough", "virtual-function", "vgpu")
    assert [gpu.address for gpu in found.usable] == ["0000:00:05.0", "0000:00:08.0"]
    assert not found.missing
    assert census("passthrough", "virtual-function").missing
    (finding,) = vgpu_findings(found)
    assert (finding.severity, "0000:00:08.0" in finding.message) == ("warning", True)


def test_who_holds_gpus(node: FakeSys) -> None:
    node.device(driver="Rival:rival_core")
    node.device("0000:00:06.0", driver="rival")
    node.device("0000:00:07.0", driver="vfio-pci")
    found = take_census(node.root, profile())
    assert [gpu.address for gpu in found.held_by(["rival-core"])] == ["0000:00:05.0"]
    assert len(found.held_by(["rival", "rival_core", "vfio-pci"])) == 2


@pytest.mark.parametrize(
    ("kinds", "message", "hint"),
    [
        ([], "on the PCI bus", "on_no_gpu"),
        (["passthrough"], "0000:00:05.0 10de:20b0 is passed through", "driver_override"),
        (["virtual-function"], "1 virtual function", "virtual machines"),
    ],
)
def test_why_there_is_no_gpu(kinds: list[str], message: str, hint: str) -> None:
    error = no_gpu(census(*kinds), "one-1.0")
    assert error.code == 18
    assert error.message.startswith("no GPU for one-1.0")
    assert message in error.message
    assert hint in error.hint


def test_the_numa_node_is_corrected_where_it_is_not_known(node: FakeSys) -> None:
    first = node.device(numa_node="-1")
    second = node.device("0000:00:06.0", numa_node="1")
    passed = node.device("0000:00:07.0", numa_node="-1", driver="vfio-pci")
    log = io.StringIO()
    fix_numa(node.root, take_census(node.root, profile()), PlainReporter(log))
    values = [(device / "numa_node").read_text().strip() for device in (first, second, passed)]
    assert values == ["0", "1", "-1"]
    assert log.getvalue() == "load: GPU 0000:00:05.0: NUMA node set to 0\n"


def test_a_numa_node_that_cannot_be_set_is_a_warning(node: FakeSys) -> None:
    path = node.device(numa_node="-1") / "numa_node"
    found = take_census(node.root, profile())
    path.unlink()
    log = io.StringIO()
    fix_numa(node.root, found, PlainReporter(log))
    assert "warning: cannot set" in log.getvalue()
    assert not path.exists()


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"vgpu": {"signature": "VF"}}, "vgpu: needs pci, which says what the devices are"),
        ({"pci": KEYS["pci"], "vgpu": {}}, "vgpu.signature: is missing"),
        (
            {"pci": KEYS["pci"], "vgpu": {"signature": "ä"}},
            "vgpu.signature: must be up to 32 characters of ASCII, not 'ä'",
        ),
    ],
)
def test_a_wrong_profile_is_told(keys: dict[str, Any], line: str) -> None:
    found, lines = parse(changed(**keys))
    assert found is None
    assert lines == [line]


def test_the_shipped_profile_knows_virtual_gpus(node: FakeSys) -> None:
    node.device(config=pci_config(b"VF"))
    shipped = load_profile(Path("/nonexistent"), "nvidia")
    assert [gpu.kind for gpu in take_census(node.root, shipped).gpus] == ["vgpu"]


def test_an_override_counts_before_the_driver_is_bound() -> None:
    assert kind_of(None, "vfio-pci", virtual_function=False, vgpu=True) == "passthrough"


def test_what_a_rival_gave_up_is_bound(node: FakeSys) -> None:
    free, bound = "0000:00:05.0", "0000:00:06.0"
    node.device(free)
    node.device(bound, driver="one:one_core")
    asked = write(node.root / "sys/bus/pci/drivers/one/bind", "")
    bind_free(node.root, [bound], ["one-core", "other"])
    assert asked.read_text() == ""
    bind_free(node.root, [free, bound], ["one-core", "other"])
    assert asked.read_text() == f"{free}\n"
