from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.kernel.moddep import (
    HostModule,
    closure,
    find_dependencies,
    module_name,
    parse_builtin,
)

DEP = """\
kernel/drivers/gpu/drm/drm.ko.xz: kernel/drivers/base/core.ko
kernel/drivers/base/core.ko:
kernel/drivers/acpi/video.ko.zst: kernel/drivers/platform/x86/wmi.ko
kernel/drivers/platform/x86/wmi.ko:
updates/dkms/nvidia.ko: kernel/drivers/gpu/drm/drm.ko.xz
"""
HOST = find_dependencies(DEP, ["drm", "core", "video", "wmi", "nvidia"])
OURS = {
    "nvidia": ("drm",),
    "nvidia-uvm": ("nvidia",),
    "nvidia-modeset": ("nvidia", "video"),
    "nvidia-peermem": ("nvidia", "ib_uverbs"),
}


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("nvidia-uvm", "nvidia_uvm"),
        ("kernel/a-b/snd-pcm.ko", "snd_pcm"),
        ("drm.ko.xz", "drm"),
        ("drm.ko.zst", "drm"),
        ("drm.ko.gz", "drm"),
        ("a.korea", "a.korea"),
    ],
)
def test_the_kernels_name_of_a_module(name: str, kernel: str) -> None:
    assert module_name(name) == kernel


def test_modules_dep_is_read() -> None:
    assert HOST["drm"] == HostModule(
        "kernel/drivers/gpu/drm/drm.ko.xz", ("kernel/drivers/base/core.ko",)
    )
    assert HOST["wmi"].needs == ()
    assert parse_builtin("kernel/drivers/i2c/i2c-core.ko\n\nkernel/a.ko\n") == {"i2c_core", "a"}


@pytest.mark.parametrize(
    "line", ["/etc/a.ko:", "../a.ko:", "a.ko: ../../etc/b.ko", "a.ko", "", ":", "# comment"]
)
def test_a_line_that_leads_out_of_the_folder_is_none(line: str) -> None:
    assert find_dependencies(line, ["a"]) == {}


def test_what_loading_takes() -> None:
    found = closure(["nvidia", "nvidia_modeset"], OURS, HOST, lambda name: False)
    assert found.ours == ("nvidia", "nvidia-modeset")
    assert found.files == (
        "kernel/drivers/gpu/drm/drm.ko.xz",
        "kernel/drivers/base/core.ko",
        "kernel/drivers/acpi/video.ko.zst",
        "kernel/drivers/platform/x86/wmi.ko",
    )
    assert found.missing == ()


def test_ours_are_taken_before_the_nodes_and_needed_ones_of_ours_come_along() -> None:
    found = closure(["nvidia-uvm"], OURS, HOST, lambda name: False)
    assert found.ours == ("nvidia-uvm", "nvidia")
    assert not any("dkms" in file for file in found.files)


def test_a_copy_of_ours_that_the_nodes_own_need_is_left_out() -> None:
    host = find_dependencies("a.ko: updates/dkms/nvidia.ko b.ko\nb.ko:\n", ["a", "b"])
    assert closure(["x"], {"x": ("a",), "nvidia": ()}, host, lambda _: False).files == (
        "a.ko",
        "b.ko",
    )


@pytest.mark.parametrize(
    ("in_kernel", "missing"),
    [((), (("ib_uverbs", "nvidia-peermem"),)), (("ib_uverbs",), ())],
)
def test_what_is_nowhere_is_told_with_who_needs_it(
    in_kernel: tuple[str, ...], missing: tuple[tuple[str, str], ...]
) -> None:
    found = closure(["nvidia-peermem"], OURS, HOST, lambda name: name in in_kernel)
    assert found.missing == missing


def test_modules_that_need_each_other_end() -> None:
    found = closure(["a"], {"a": ("b",), "b": ("a",)}, {}, lambda _: False)
    assert found.ours == ("a", "b")


@pytest.mark.parametrize("asked", ["snd-pcm", "snd_pcm"])
def test_only_what_is_asked_for_is_found_and_either_way_it_is_spelled(asked: str) -> None:
    text = "kernel/snd-pcm.ko.xz: kernel/snd.ko.xz\nkernel/xsnd-pcm.ko:\nkernel/snd.ko.xz:\n"
    found = find_dependencies(text, [asked])
    assert found == {"snd_pcm": HostModule("kernel/snd-pcm.ko.xz", ("kernel/snd.ko.xz",))}
    assert find_dependencies(text, []) == {}


def test_of_a_name_that_is_there_twice_the_first_counts() -> None:
    assert find_dependencies("b/a.ko:\nc/a.ko:\n", ["a"])["a"].file == "b/a.ko"


@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_any_text_is_read(text: str, names: list[str]) -> None:
    for name, module in find_dependencies(text, names).items():
        assert module_name(module.file) == name
        assert ".." not in module.file.split("/")
