"""A package's own list of GPUs decides about the flavour too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.gpu.flavour import decide
from modulus.core.gpu.supported import ListedGpu, parse_gpu_list
from modulus.core.profile.profile import GpuListFormat
from modulus.errors import IntegrityError, ModulusError, UnsupportedError
from tests.support.realgpus import (
    A100,
    GH200,
    NVIDIA,
    T4,
    V100,
    auto,
    gpus,
    listed,
    refused,
)


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
