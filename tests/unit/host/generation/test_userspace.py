from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.generation.soname import soname
from modulus.core.package.userspace import Selection, plan_layout, soname_links, userspace_id
from modulus.core.package.vendor_manifest import VendorManifest, parse_manifest
from modulus.core.profile.profile import ComponentRule as Rule
from modulus.core.record.forms import is_inside
from modulus.core.tree import Link
from modulus.errors import ConfigError, IntegrityError
from modulus.host.archive.reader import Archive, Extracted
from modulus.host.files.atomic import remove_tree
from modulus.host.generation.userspace import Userspace, provide_userspace
from modulus.host.report.reporter import PlainReporter, Reporter
from tests.support.kill import killed_at
from tests.support.library import shared_library

VERSION = "535.1"
HEADER = f"Driver\n{VERSION}\n0\ndriver\n5\n6\n7\n8\n"
FOLDERS = {
    "CUDA_LIB": "lib",
    "CUDA_SYMLINK": "lib",
    "UTILITY_LIB": "lib",
    "UTILITY_BINARY": "bin",
    "UTILITY_BIN_SYMLINK": "bin",
    "VDPAU_LIB": "lib/vdpau",
    "GBM_BACKEND_LIB_SYMLINK": "lib/gbm",
    "FIRMWARE": "firmware/vendor/{version}/{path}",
    "VULKAN_ICD_JSON": "share/vulkan/{path}",
    "INTERNAL_UTILITY_DATA": "share/vendor",
    "SANDBOXUTILS_FILELIST_JSON": "share/vendor",
}
MANIFEST = """\
libcuda.so.535.1 0755 CUDA_LIB NATIVE / MODULE:compute
libcuda.so.1 0000 CUDA_SYMLINK NATIVE / libcuda.so.535.1 MODULE:compute
libcuda.so 0000 CUDA_SYMLINK NATIVE / libcuda.so.1 MODULE:compute
32/libcuda.so.535.1 0755 CUDA_LIB COMPAT32 / MODULE:compute
32/libcuda.so.1 0000 CUDA_SYMLINK COMPAT32 / libcuda.so.535.1 MODULE:compute
libml.so.535.1 0755 UTILITY_LIB NATIVE MODULE:utility
tool 0644 UTILITY_BINARY MODULE:utility
helper 4755 UTILITY_BINARY MODULE:utility
old-tool 0000 UTILITY_BIN_SYMLINK tool MODULE:utility
firmware/gsp_a.bin 0444 FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:installer
firmware/sub/gsp_b.bin 0644 FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:installer
icd.json 0644 VULKAN_ICD_JSON icd.d/ MODULE:graphics
layers.json 0644 VULKAN_ICD_JSON implicit_layer.d/ MODULE:graphics
libvdpau_x.so.535.1 0755 VDPAU_LIB NATIVE vdpau/ MODULE:video
x-drm_gbm.so 0000 GBM_BACKEND_LIB_SYMLINK NATIVE libml.so.535.1 MODULE:graphics
kernel/driver.c 0644 KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1 MODULE:driver
"""


ALL = Selection(("all",), (Rule(tuple(FOLDERS)),), FOLDERS)


def manifest(entries: str = MANIFEST) -> VendorManifest:
    return parse_manifest(HEADER + entries + "\n")


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


class Package(Archive):
    """A tar of ``members``, world-writable and setuid, that counts how often it is read."""

    calls = 0

    def __init__(self, path: Path, members: dict[str, bytes]) -> None:
        super().__init__(path, "tar")
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size, member.mode = len(content), 0o4777
                tar.addfile(member, io.BytesIO(content))

    def extract(self, *args: Any, **options: Any) -> Extracted:
        self.calls += 1
        return super().extract(*args, **options)


MEMBERS = {
    line.split()[0]: line.split()[0].encode()
    for line in MANIFEST.splitlines()
    if "SYMLINK" not in line
} | {"libml.so.535.1": shared_library("libml.so.1")}


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path / "package/driver.tar", MEMBERS)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def provide(
    cache: Path,
    archive: Archive,
    selection: Selection = ALL,
    entries: str = MANIFEST,
    reporter: Reporter = PlainReporter(io.StringIO()),  # noqa: B008
) -> Userspace:
    found = provide_userspace(cache, archive, manifest(entries), selection, "a" * 64, reporter)
    assert found is not None
    return found


def test_a_userspace_is_made_once(cache: Path, package: Package) -> None:
    old = os.umask(0o077)
    try:
        made = provide(cache, package)
    finally:
        os.umask(old)
    assert provide(cache, package) == made
    assert package.calls == 1
    assert made.path == cache / "userspace" / made.id / "tree"
    assert (made.path / "lib/libcuda.so").read_bytes() == b"libcuda.so.535.1"
    assert os.readlink(made.path / "lib/libml.so.1") == "libml.so.535.1"
    assert sorted(os.listdir(made.path.parent)) == ["record.json", "tree"]
    assert os.listdir(cache / "userspace") == [made.id]
    planned = {file.path: file.mode for file in plan_layout(manifest(), ALL).files}
    for path in made.path.rglob("*"):
        if not path.is_symlink():
            mode = planned.get(str(path.relative_to(made.path)), 0o755)
            assert path.stat().st_mode & 0o7777 == mode, path


def test_a_member_can_have_two_places(cache: Path) -> None:
    archive = Package(cache.parent / "a.tar", {"a.json": b"{}"})
    entries = "a.json 0644 VULKAN_ICD_JSON x/\na.json 0644 VULKAN_ICD_JSON y/"
    made = provide(cache, archive, entries=entries)
    assert (made.path / "share/vulkan/x/a.json").read_bytes() == b"{}"
    assert (made.path / "share/vulkan/y/a.json").stat().st_nlink == 1


def test_a_profile_without_userspace_has_none(cache: Path, package: Package) -> None:
    none = Selection((), (), {})
    reporter = PlainReporter(io.StringIO())
    assert provide_userspace(cache, package, manifest(), none, "a" * 64, reporter) is None
    assert package.calls == 0
    assert not cache.exists()


@pytest.mark.parametrize("what", ["missing", "symlink"])
def test_a_package_must_have_what_its_manifest_lists(cache: Path, what: str) -> None:
    archive = Package(cache.parent / "x.tar", {"helper": b""})
    if what == "symlink":
        with tarfile.open(archive.path, "a") as tar:
            member = tarfile.TarInfo("tool")
            member.type, member.linkname = tarfile.SYMTYPE, "helper"
            tar.addfile(member)
    with pytest.raises(IntegrityError, match="no file tool"):
        provide(cache, archive, entries="helper 0755 UTILITY_BINARY\ntool 0755 UTILITY_BINARY")
    assert os.listdir(cache / "userspace") == []


@pytest.mark.parametrize("damage", ["flip", "remove", "mode", "link", "record", "id", "schema"])
def test_a_bad_userspace_is_set_aside_and_made_again(
    cache: Path, package: Package, damage: str
) -> None:
    made = provide(cache, package)
    tool, record = made.path / "bin/tool", made.path.parent / "record.json"
    value = json.loads(record.read_text())
    if damage == "flip":
        tool.write_bytes(b"tOol")
    elif damage == "remove":
        tool.unlink()
    elif damage == "mode":
        tool.chmod(0o4755)
    elif damage == "link":
        (made.path / "lib/libcuda.so.1").unlink()
        (made.path / "lib/libcuda.so.1").symlink_to("/etc/passwd")
    elif damage == "record":
        record.write_text("{")
    elif damage == "id":
        record.write_text(json.dumps({**value, "id": "b" * 64}))
    else:
        record.write_text(json.dumps({**value, "schema": 99}))
    log = io.StringIO()
    assert provide(cache, package, reporter=PlainReporter(log)) == made
    assert package.calls == 2
    assert tool.read_bytes() == b"tool"
    assert [path.name.partition(".")[0] for path in (cache / "bad").iterdir()] == [made.id]
    assert "is bad and not used" in log.getvalue()


def test_a_damaged_library_gets_no_link_and_a_warning(cache: Path) -> None:
    archive = Package(cache.parent / "x.tar", {"libx.so.1": shared_library("libx.so.0")[:150]})
    log = io.StringIO()
    entries = "libx.so.1 0755 UTILITY_LIB NATIVE"
    made = provide(cache, archive, entries=entries, reporter=PlainReporter(log))
    assert os.listdir(made.path / "lib") == ["libx.so.1"]
    assert "lib/libx.so.1 is no sound library" in log.getvalue()


def test_two_at_once_agree(cache: Path, tmp_path: Path) -> None:
    barrier = threading.Barrier(2, timeout=10)

    class Slow(Package):
        def extract(self, *args: Any, **options: Any) -> Extracted:
            done = super().extract(*args, **options)
            barrier.wait()
            return done

    found: list[Userspace] = []
    archives = [Slow(tmp_path / f"{number}.tar", MEMBERS) for number in range(2)]
    threads = [
        threading.Thread(target=lambda archive=archive: found.append(provide(cache, archive)))
        for archive in archives
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert os.listdir(cache / "userspace") == [found[0].id]


def test_kill_at_every_step_leaves_nothing_or_all(
    cache: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    few = replace(ALL, rules=(Rule(("UTILITY_LIB", "UTILITY_BINARY"), ("libml*", "tool")),))
    seen, step = set(), 1
    while killed_at(step, lambda: provide(cache, package, few)):
        package.calls = 0
        made = provide(cache, package, few)
        assert os.listdir(cache / "userspace") == [made.id]
        assert not (cache / "bad").exists()
        seen.add(package.calls)
        remove_tree(made.path.parent)
        step += 1
    assert step > 30
    assert seen == {0, 1}
