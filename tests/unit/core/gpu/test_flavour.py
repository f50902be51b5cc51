from __future__ import annotations

from pathlib import Path

import pytest

from modulus.core.gpu.flavour import decide
from modulus.core.pci import devices_of
from modulus.errors import ConfigError
from modulus.host.config.load import load_profile
from tests.support.realgpus import (
    A100,
    B200,
    GH200,
    H100,
    K80,
    NVIDIA,
    T4,
    V100,
    auto,
    gpu,
    gpus,
    refused,
)

SMALL = load_profile(Path("/nonexistent"), "v4l2loopback")
GT710, GTX1080, RTX5090 = 0x128B, 0x1B80, 0x2B85
OLD = "proprietary is the default of drivers before 560"
HOPPER = "self-hosted Hopper GPUs work with the open flavour only"


@pytest.mark.parametrize(
    ("version", "devices", "flavour"),
    [
        ("535.309.01", (), "proprietary"),
        ("555.58", (), "proprietary"),
        ("560.28.03", (), "open"),
        ("595.45.04", (), "open"),
        ("535.309.01", (T4,), "proprietary"),
        ("570.86.15", (T4, A100), "open"),
        ("570.86.15", (H100,), "open"),
        ("535.309.01", (H100,), "proprietary"),
        ("535.309.01", (GH200,), "open"),
        ("535.309.01", (GH200, A100), "open"),
        ("570.86.15", (V100,), "proprietary"),
        ("570.86.15", (V100, A100), "proprietary"),
        ("570.86.15", (B200,), "open"),
        ("470.256.02", (K80,), "proprietary"),
        ("470.256.02", (T4,), "proprietary"),
    ],
)
def test_automatic(version: str, devices: tuple[int, ...], flavour: str) -> None:
    assert auto(version, *devices) == flavour


@pytest.mark.parametrize(
    "device", [0x2340, 0x237F, 0x2940, 0x297F, 0x31A1, 0x31C0, 0x31FF, 0x2B85, 0x2F04, 0x3182]
)
def test_ids_that_need_the_open_flavour(device: int) -> None:
    assert auto("570.86.15", device) == "open"
    error = refused("570.86.15", device, wanted="proprietary")
    assert f"10de:{device:04x}" in error.message and "open flavour only" in error.message
    assert error.hint == "set flavour: auto, or flavour: open"


@pytest.mark.parametrize(
    "device", [0x1340, 0x13C2, 0x1401, 0x15F8, 0x17C8, 0x1B80, 0x1C03, 0x1D01, 0x1D81, 0x1DF6]
)
def test_ids_that_need_the_proprietary_flavour(device: int) -> None:
    assert auto("580.65.06", device) == "proprietary"
    assert "no GSP" in refused("580.65.06", device, wanted="open").message
    assert "580" in refused("590.48.01", device).hint


@pytest.mark.parametrize("device", [0x1E02, 0x1FB8, 0x2182, 0x2080, 0x25FF, 0x2331, 0x28F8])
def test_ids_that_have_the_choice(device: int) -> None:
    for wanted in ("open", "proprietary"):
        choice = decide(NVIDIA, wanted, "570.86.15", [gpu(device)], None)
        assert (choice.flavour, choice.reason) == (wanted, "set by the settings")


@pytest.mark.parametrize(
    ("version", "devices", "reason"),
    [
        ("535.1", (), f"{OLD}; no GPU is here to say otherwise"),
        ("570.1", (T4,), "open is the default of drivers from 560 on"),
        ("510.1", (T4,), "nvidia 510.1 has no open flavour (versions >=515 do)"),
        ("535.1", (A100, GH200), f"GPU 0000:02:00.0 (10de:2342): {HOPPER}"),
    ],
)  # fmt: skip
def test_the_reason(version: str, devices: tuple[int, ...], reason: str) -> None:
    assert decide(NVIDIA, "auto", version, gpus(*devices), None).reason == reason


@pytest.mark.parametrize(
    ("version", "devices", "message", "hint"),
    [
        ("560.28.03", (B200,), "not supported by drivers before 570", "570 branch or newer"),
        ("535.309.01", (K80,), "not supported by drivers from 495", "470 branch"),
        ("510.47.03", (GH200,), "has no open flavour (versions >=515 do)", "choose a version"),
        ("550.163.01", (GT710, K80), "128b): GPUs before Maxwell", "470 branch"),
        ("590.48.01", (K80, V100), "102d): GPUs before Maxwell", "470 branch"),
    ],
)  # fmt: skip
def test_refusals(version: str, devices: tuple[int, ...], message: str, hint: str) -> None:
    error = refused(version, *devices)
    assert message in error.message and hint in error.hint


@pytest.mark.parametrize(
    ("version", "devices", "flavour", "left_out", "why", "fix"),
    [
        # The vendor's driver ignores the GT 710 and drives the T4.
        ("550.163.01", (GT710, T4), "proprietary", [1], "before Maxwell", "470 branch"),
        ("495.44", (T4, K80), "proprietary", [2], "before Maxwell", "390 branch for Fermi"),
        ("590.48.01", (GTX1080, T4, V100), "open", [1, 3], "Volta GPUs are not", "580 branch"),
        ("565.57.01", (RTX5090, T4), "open", [1], "before 570", "570 branch or newer"),
        ("550.163.01", (B200, T4), "proprietary", [1], "before 570", "570 branch or newer"),
        # The one that is left decides, not the version's default.
        ("570.86.15", (GT710, V100), "proprietary", [1], "before Maxwell", "470 branch"),
        ("550.163.01", (GT710, GH200), "open", [1], "before Maxwell", "470 branch"),
        # Each would work with another flavour: the one for most of them.
        ("570.86.15", (GH200, V100, GTX1080), "proprietary", [1], HOPPER, "flavour: open"),
        ("570.86.15", (V100, GH200, B200), "open", [1], "have no GSP", "flavour: proprietary"),
        ("570.86.15", (GH200, V100), "open", [2], "have no GSP", "flavour: proprietary"),
    ],
)  # fmt: skip
def test_a_gpu_that_the_driver_does_not_drive_is_left_out(
    version: str,
    devices: tuple[int, ...],
    flavour: str,
    left_out: list[int],
    why: str,
    fix: str,
) -> None:
    choice = decide(NVIDIA, "auto", version, gpus(*devices), None)
    assert choice.flavour == flavour
    assert [gpu.gpu for gpu in choice.dropped] == [f"0000:{n:02x}:00.0" for n in left_out]
    for left in choice.dropped:
        assert why in left.cause and fix in left.fix
        assert f"GPU {left.gpu} (10de:" in str(left) and "leaves it out" in str(left)
        assert left.gpu not in choice.reason
    error = refused(version, *devices, require_all=True)
    assert "require_all_gpus is set" in error.message


@pytest.mark.parametrize(
    ("wanted", "version", "devices", "why"),
    [
        ("proprietary", "550.163.01", (GT710, T4), "before Maxwell"),
        ("open", "550.163.01", (GT710, T4), "before Maxwell"),
        ("open", "570.86.15", (V100, T4), "open flavour: Maxwell, Pascal and Volta"),
        ("proprietary", "570.86.15", (GH200, T4), HOPPER),
    ],
)
def test_with_a_flavour_that_is_set_too(
    wanted: str, version: str, devices: tuple[int, ...], why: str
) -> None:
    choice = decide(NVIDIA, wanted, version, gpus(*devices), None)
    assert (choice.flavour, choice.reason) == (wanted, "set by the settings")
    (dropped,) = choice.dropped
    assert dropped.gpu == "0000:01:00.0" and why in dropped.cause
    assert why in refused(version, *devices, wanted=wanted, require_all=True).message


def test_a_set_flavour_for_none_of_them_says_which_one_to_set() -> None:
    error = refused("570.86.15", K80, V100, wanted="open")
    assert "1db4) does not work with the open flavour" in error.message
    assert error.hint == "set flavour: auto, or flavour: proprietary"


def test_gpus_that_need_different_flavours_are_told_of_where_all_have_to_work() -> None:
    error = refused("570.86.15", GH200, V100, require_all=True)
    assert f"2342) needs the open one ({HOPPER}); GPU 0" in error.message
    assert error.hint.startswith("take one of them out")


def test_all_that_the_driver_drives_is_all_that_is_required() -> None:
    choice = decide(NVIDIA, "auto", "570.86.15", gpus(T4, A100), None, require_all=True)
    assert (choice.flavour, choice.dropped) == ("open", ())


def test_a_version_without_the_wanted_flavour() -> None:
    assert "510.1 has no open flavour" in refused("510.1", wanted="open").message


def test_a_flavour_that_the_driver_does_not_have() -> None:
    with pytest.raises(ConfigError) as raised:
        decide(SMALL, "proprietary", "0.12.7", [], None)
    assert raised.value.message == "v4l2loopback has no flavour proprietary, only open"
    assert "drivers.v4l2loopback.flavour" in raised.value.hint


def test_a_single_flavour_is_taken_whatever_the_gpus() -> None:
    choice = decide(SMALL, "auto", "0.12.7", gpus(GH200, V100), None)
    assert (choice.flavour, choice.reason) == ("open", "the only one there is")


def test_only_the_drivers_own_devices_count() -> None:
    others = [gpu(GH200, vendor=0x1002), gpu(GH200, kind=0x040300), gpu(GH200, kind=0x068000)]
    assert decide(NVIDIA, "auto", "535.1", others, None).flavour == "proprietary"
    assert devices_of(NVIDIA.pci, [gpu(T4, kind=0x030000)]) != ()
