from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.gpu.flavour import decide
from modulus.core.gpu.supported import ListedGpu, parse_gpu_list
from modulus.core.pci import PciDevice, devices_of
from modulus.core.profile.profile import GpuListFormat
from modulus.errors import ConfigError, IntegrityError, ModulusError, UnsupportedError
from modulus.host.config.load import load_profile

NVIDIA = load_profile(Path("/nonexistent"), "nvidia")
SMALL = load_profile(Path("/nonexistent"), "v4l2loopback")

T4, A100, V100, H100, GH200, B200, K80 = 0x1EB8, 0x20B0, 0x1DB4, 0x2330, 0x2342, 0x2901, 0x102D
GT710, GTX1080, RTX5090 = 0x128B, 0x1B80, 0x2B85
OLD = "proprietary is the default of drivers before 560"
HOPPER = "self-hosted Hopper GPUs work with the open flavour only"


def gpu(device: int, slot: int = 1, vendor: int = 0x10DE, kind: int = 0x030200) -> PciDevice:
    return PciDevice(f"0000:{slot:02x}:00.0", vendor, device, kind)


def gpus(*devices: int) -> list[PciDevice]:
    return [gpu(device, slot) for slot, device in enumerate(devices, 1)]


def auto(version: str, *devices: int, listed: Any = None) -> str:
    return decide(NVIDIA, "auto", version, gpus(*devices), listed).flavour


def refused(
    version: str,
    *devices: int,
    wanted: str = "auto",
    listed: Any = None,
    require_all: bool = False,
) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as raised:
        decide(NVIDIA, wanted, version, gpus(*devices), listed, require_all=require_all)
    assert raised.value.code == 15 and "\n" not in raised.value.message + raised.value.hint
    return raised.value


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


# A GPU that the driver leaves out beside one that it drives.


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
    for gpu in choice.dropped:
        assert why in gpu.cause and fix in gpu.fix
        assert f"GPU {gpu.gpu} (10de:" in str(gpu) and "leaves it out" in str(gpu)
        assert gpu.gpu not in choice.reason
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


# The package's own list.


def listed(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"chips": list(entries)}


def chip(device: int, *features: str, **more: str) -> dict[str, Any]:
    return {"devid": f"0x{device:04X}", "name": "A name", "features": list(features), **more}


def test_the_list_decides_for_what_the_rules_leave_open() -> None:
    without = listed(chip(T4, "runtimepm"))
    choice = decide(NVIDIA, "auto", "570.1", gpus(T4), without)
    assert choice.flavour == "proprietary"
    title, _, why = choice.reason.partition("): ")
    assert title == "GPU 0000:01:00.0 (10de:1eb8, A name"
    assert why == "the package does not list it for the open flavour"
    assert auto("570.1", T4, listed=listed(chip(T4, "kernelopen"))) == "open"
    assert auto("570.1", T4, A100, listed=without) == "proprietary"
    error = refused("570.1", T4, wanted="open", listed=without)
    assert "does not list it" in error.message


def test_a_gpu_that_needs_what_the_package_lacks() -> None:
    error = refused("535.1", GH200, listed=listed(chip(GH200)))
    assert "self-hosted Hopper" in error.message and "does not list it" in error.message


def test_a_legacy_gpu_is_refused_with_its_branch() -> None:
    error = refused("570.1", T4, listed=listed(chip(T4, legacybranch="580.xx")))
    assert error.hint == "use a driver of the 580.xx branch"
    legacy = listed(chip(T4, legacybranch="580.xx"), chip(A100, "kernelopen"))
    (dropped,) = decide(NVIDIA, "auto", "570.1", gpus(T4, A100), legacy).dropped
    assert (dropped.gpu, dropped.fix) == ("0000:01:00.0", "use a driver of the 580.xx branch")
    # One board that is still supported is enough.
    both = listed(chip(T4, legacybranch="580.xx"), chip(T4, "kernelopen"))
    assert auto("570.1", T4, listed=both) == "open"


def test_a_gpu_the_list_does_not_have_goes_by_the_rules() -> None:
    assert auto("570.1", T4, listed=listed()) == "open"
    assert auto("570.1", V100, listed=listed(chip(T4))) == "proprietary"


@pytest.mark.parametrize(
    "document",
    [
        [], "x", {}, {"chips": {}}, {"chips": ["x"]}, {"chips": [{}]},
        {"chips": [{"devid": 5}]}, {"chips": [{"devid": "zz"}]},
        {"chips": [{"devid": "0x1eb8", "features": "kernelopen"}]},
    ],
)  # fmt: skip
def test_what_is_no_list(document: Any) -> None:
    with pytest.raises(IntegrityError, match=r"supported-gpus\.json: "):
        decide(NVIDIA, "auto", "570.1", [], document)


def test_another_vendors_list_is_read_as_its_profile_says() -> None:
    form = GpuListFormat("gpus.json", "gpus", "pci", "title", "can", "old", {})
    found = parse_gpu_list(
        form, {"gpus": [{"pci": "0x0001", "title": "X", "can": ["a"], "old": "3"}]}
    )
    assert found == {1: ListedGpu("X", frozenset({"a"}), "3")}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["0x1eb8", "kernelopen", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["chips", "devid", "features", "name"]), inner)
    ),
    max_leaves=10,
)


@given(JSON)
def test_any_document_is_a_list_or_refused(document: Any) -> None:
    form = NVIDIA.gpu_list
    assert form is not None
    try:
        found = parse_gpu_list(form, document)
    except IntegrityError:
        return
    assert set(found) <= {T4, 0}


@given(
    st.sampled_from(["auto", "open", "proprietary"]),
    st.sampled_from(["470.1", "535.309.01", "570.1", "590.48.01"]),
    st.lists(st.integers(0, 0xFFFF), max_size=4),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.booleans()), max_size=4),
)
def test_any_gpus_get_a_flavour_that_drives_one_or_a_reason(
    wanted: str, version: str, devices: list[int], known: list[tuple[int, bool]]
) -> None:
    document = listed(*(chip(device, *(["kernelopen"] * works)) for device, works in known))
    try:
        choice = decide(NVIDIA, wanted, version, gpus(*devices), document)
    except ModulusError as error:
        assert error.message and error.hint
        return
    assert wanted in ("auto", choice.flavour) and choice.reason
    dropped = {gpu.gpu for gpu in choice.dropped}
    assert not devices or len(dropped) < len(devices)
    for one in gpus(*devices):
        # With the GPU alone, the flavour is refused just where it is left out.
        if one.address in dropped:
            with pytest.raises(UnsupportedError):
                decide(NVIDIA, choice.flavour, version, [one], document)
        else:
            decide(NVIDIA, choice.flavour, version, [one], document)
