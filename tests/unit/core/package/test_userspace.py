"""What of a package is wanted, and where it goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.generation.soname import soname
from modulus.core.package.userspace import plan_layout, soname_links, userspace_id
from modulus.core.profile.profile import ComponentRule as Rule
from modulus.core.record.forms import is_inside
from modulus.core.tree import Link
from modulus.errors import ConfigError, IntegrityError
from tests.support.library import shared_library
from tests.support.userspace import ALL, FOLDERS, VERSION, manifest


def test_every_file_goes_to_its_types_folder() -> None:
    layout = plan_layout(manifest(), ALL)
    assert {(file.member, file.path, f"{file.mode:04o}") for file in layout.files} == {
        ("libcuda.so.535.1", "lib/libcuda.so.535.1", "0755"),
        ("libml.so.535.1", "lib/libml.so.535.1", "0755"),
        ("tool", "bin/tool", "0755"),
        ("helper", "bin/helper", "0755"),
        ("firmware/gsp_a.bin", "firmware/vendor/535.1/gsp_a.bin", "0644"),
        ("firmware/sub/gsp_b.bin", "firmware/vendor/535.1/sub/gsp_b.bin", "0644"),
        ("icd.json", "share/vulkan/icd.d/icd.json", "0644"),
        ("layers.json", "share/vulkan/implicit_layer.d/layers.json", "0644"),
        ("libvdpau_x.so.535.1", "lib/vdpau/libvdpau_x.so.535.1", "0755"),
    }
    assert layout.links == (
        Link("bin/old-tool", "tool"),
        Link("lib/gbm/x-drm_gbm.so", "../libml.so.535.1"),
        Link("lib/libcuda.so", "libcuda.so.1"),
        Link("lib/libcuda.so.1", "libcuda.so.535.1"),
    )


@pytest.mark.parametrize(
    ("rules", "paths"),
    [
        ((), set()),
        ((Rule(("UTILITY_BINARY",), ("to*",)),), {"bin/tool"}),
        ((Rule(("UTILITY_BINARY",), ("x", "helper")),), {"bin/helper"}),
        ((Rule(("CUDA_SYMLINK",)),), set()),
        (
            (Rule(("CUDA_SYMLINK",), ("libcuda.so.1",)), Rule(("CUDA_LIB",))),
            {"lib/libcuda.so.535.1", "lib/libcuda.so.1"},
        ),
    ],
    ids=["none", "name", "names", "links without file", "two rules"],
)
def test_components_choose_by_type_and_name(rules: tuple[Rule, ...], paths: set[str]) -> None:
    assert plan_layout(manifest(), replace(ALL, rules=rules)).paths == paths


@pytest.mark.parametrize(
    ("entries", "error", "words"),
    [
        ("a 0644 DOT_DESKTOP / MODULE:x", ConfigError, "no folder for files of type"),
        ("a/t 0755 UTILITY_BINARY\nb/t 0755 UTILITY_BINARY", IntegrityError, "both a/t and"),
        ("x 0644 VULKAN_ICD_JSON /etc", None, "share/vulkan/etc/x"),
    ],
)
def test_what_has_no_place_of_its_own_is_refused(
    entries: str, error: type[Exception] | None, words: str
) -> None:
    everything = replace(ALL, rules=(Rule((*FOLDERS, "DOT_DESKTOP")),))
    if error is None:
        assert plan_layout(manifest(entries), everything).paths == {words}
        return
    with pytest.raises(error, match=words):
        plan_layout(manifest(entries), everything)


@pytest.mark.parametrize("folder", ["../{path}", "/etc", "", "share/../.."])
def test_no_folder_leads_out_of_the_tree(folder: str) -> None:
    selection = replace(ALL, folders={**FOLDERS, "UTILITY_BINARY": folder})
    with pytest.raises(IntegrityError, match="outside"):
        plan_layout(manifest(), selection)


_NAMES = st.sampled_from(["a", "b", "c", "../a", "/usr/lib/b", "d/../c", "."])


@given(st.lists(st.tuples(st.sampled_from("abcd"), _NAMES)), st.sets(st.sampled_from("ab")))
def test_every_link_ends_at_a_file_inside(
    links: list[tuple[str, str]], there: set[str]
) -> None:
    entries = [f"{name} 0755 UTILITY_LIB NATIVE" for name in sorted(there)]
    entries += [f"{name} 0000 CUDA_SYMLINK NATIVE / {target}" for name, target in links]
    layout = plan_layout(manifest("\n".join(entries)), ALL)
    files = {file.path for file in layout.files}
    targets = {link.path: link.target for link in layout.links}
    assert len(targets) == len(layout.links)
    assert not files & targets.keys()
    for path in targets:
        steps = 0
        while path not in files:
            path = f"lib/{targets[path]}"
            steps += 1
            assert is_inside(path)
            assert steps <= len(targets)


def test_sonames_get_the_links_the_manifest_lacks() -> None:
    sonames = {
        "lib/libcuda.so.535.1": "libcuda.so.1",
        "lib/libml.so.9": "libml.so.1",
        "lib/libml.so.10": "libml.so.1",
        "lib/libself.so": "libself.so",
        "lib/vdpau/libv.so.1.2": "libv.so.1",
        "lib/libevil.so": "../bin/evil",
    }
    paths = [*sonames, "lib/libcuda.so.1"]
    assert soname_links(paths, sonames) == (
        Link("lib/libml.so.1", "libml.so.10"),
        Link("lib/vdpau/libv.so.1", "libv.so.1.2"),
    )


def test_a_soname_is_read() -> None:
    assert soname(shared_library("libcuda.so.1", padding=5000)) == "libcuda.so.1"
    assert soname(shared_library(None)) is None
    assert soname(b"#!/bin/sh\n") is None


@given(st.data())
def test_a_damaged_library_has_a_soname_or_is_refused(data: st.DataObject) -> None:
    content = bytearray(shared_library("libcuda.so.1"))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = soname(cut)
    except ValueError:
        return
    assert found is None or isinstance(found, str)


@pytest.mark.parametrize(
    "change",
    [
        {"components": ("other",)},
        {"rules": (Rule(("CUDA_LIB",)),)},
        {"rules": (Rule(tuple(FOLDERS), ("x",)),)},
        {"folders": {**FOLDERS, "CUDA_LIB": "lib64"}},
    ],
)
def test_the_id_covers_what_decides(change: dict[str, object]) -> None:
    changed = replace(ALL, **change)  # type: ignore[arg-type]
    assert userspace_id("a" * 64, VERSION, changed) != userspace_id("a" * 64, VERSION, ALL)
    same = replace(ALL, components=ALL.components * 2)
    assert userspace_id("a" * 64, VERSION, same) == userspace_id("a" * 64, VERSION, ALL)
    assert userspace_id("b" * 64, VERSION, ALL) != userspace_id("a" * 64, VERSION, ALL)
