"""When nothing is compiled for a kernel, and what is kept for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modulus.errors import IntegrityError
from modulus.host.reuse.header_digest import survey
from modulus.host.reuse.object_cache import Kept, KeptObjects
from modulus.host.reuse.reuse_rules import UnfitError
from modulus.pipeline.cleaning import Bounds, collect
from modulus.pipeline.site import Site
from tests.support.headertrees import write
from tests.support.quiet import QUIET
from tests.support.smallbuild import FAMILY, NEW, OLD, Build, command, headers


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path / "build")


def found(cache: Path, tmp_path: Path) -> Kept:
    kept = KeptObjects(cache).find(FAMILY, survey(headers(tmp_path / "newer", NEW), NEW))
    assert kept is not None
    return kept


def test_what_tells_the_release_is_not_kept_and_all_else_is(
    build: Build, tmp_path: Path
) -> None:
    build.keep(tmp_path / "cache")
    work = tmp_path / "restored"
    work.mkdir()
    KeptObjects(tmp_path / "cache").restore(found(tmp_path / "cache", tmp_path), work, NEW)
    names = {path.name for path in work.iterdir()}
    assert names == {
        *("a.c", "b.c", "test.sh", "blob.o_binary", "a.o", ".a.o.cmd", "m.mod", "note.h")
    }
    assert (work / "note.h").read_text() == f"// for {NEW}\n#define HAS_X\n"
    assert (work / "blob.o_binary").read_text() == "vendor" * (1 << 18)
    assert len({path.stat().st_mtime_ns for path in work.iterdir()}) == 1


def test_large_files_are_kept_once(build: Build, tmp_path: Path) -> None:
    build.keep(tmp_path / "cache")
    write(build.headers / "source/include/linux/more.h")
    build.keep(tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob(f"compiled/{FAMILY}/*/manifest.json"))) == 2
    assert len(list((tmp_path / "cache").glob("compiled/blobs/*.zst"))) == 1


def unknown_line(build: Build) -> None:
    write(build.work / "test.sh", "echo UTS_RELEASE > note\ngcc -DX=$KERNELRELEASE\n")


def secret_header(build: Build) -> None:
    write(build.work / "test.sh", "echo UTS_RELEASE > note\n#include <linux/vermagic.h>\n")


def odd_header(build: Build) -> None:
    write(build.headers / "source/include/linux/odd.h", "UTS_RELEASE\n")


def release_in_object(build: Build) -> None:
    write(build.work / "a.o", f"object a {OLD}\n")


def release_in_header(build: Build) -> None:
    write(build.work / "note.h", f'#define FOR "{OLD}"\n')


@pytest.mark.parametrize(
    "spoil", [unknown_line, secret_header, odd_header, release_in_object, release_in_header]
)
def test_a_release_nobody_vouches_for_keeps_all_from_being_kept(
    build: Build, tmp_path: Path, spoil: object
) -> None:
    assert callable(spoil)
    spoil(build)
    with pytest.raises(UnfitError, match="release"):
        build.keep(tmp_path / "cache")
    assert not KeptObjects(tmp_path / "cache").has(FAMILY)


def test_bitcode_is_not_kept(build: Build, tmp_path: Path) -> None:
    (build.work / "a.o").write_bytes(b"BC\xc0\xde" + bytes(60))
    with pytest.raises(UnfitError, match="bitcode"):
        build.keep(tmp_path / "cache")


@pytest.mark.parametrize(
    "name", ["/build/pipe.h", "/build/link.h", "/build/folder/inner.h", "../outside.h"]
)
def test_only_files_of_the_build_folder_itself_are_read(
    build: Build, tmp_path: Path, name: str
) -> None:
    # A payload that would have root read what it names.
    os.mkfifo(build.work / "pipe.h")
    (build.work / "link.h").symlink_to(build.work / "pipe.h")
    (build.work / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "inner.h")
    os.mkfifo(build.work.parent / "outside.h")
    write(build.work / ".a.o.cmd", command("a.o", "a.c", name))
    path = build.keep(tmp_path / "cache")
    assert "a.o" in json.loads((path / "manifest.json").read_text())["left_out"]


@pytest.mark.parametrize("name", ["core", ".a.o.cmd"])
def test_what_is_far_too_large_is_not_read(build: Build, tmp_path: Path, name: str) -> None:
    with open(build.work / name, "ab") as file:
        file.truncate(8 << 40)
    with pytest.raises(UnfitError, match="too much"):
        build.keep(tmp_path / "cache")


def test_a_large_file_may_be_alone_in_its_folder(build: Build, tmp_path: Path) -> None:
    write(build.work / "bin/large", "large" * (1 << 18))
    build.keep(tmp_path / "cache")
    (tmp_path / "work").mkdir()
    kept = found(tmp_path / "cache", tmp_path)
    KeptObjects(tmp_path / "cache").restore(kept, tmp_path / "work", NEW)
    assert (tmp_path / "work/bin/large").stat().st_size == 5 << 18


def test_an_object_whose_headers_cannot_be_read_is_not_kept(
    build: Build, tmp_path: Path
) -> None:
    write(build.work / ".a.o.cmd", command("a.o", "a.c", "/usr/src/linux/source/gone.h"))
    path = build.keep(tmp_path / "cache")
    assert "a.o" in json.loads((path / "manifest.json").read_text())["left_out"]


@pytest.mark.parametrize("pattern", [f"{FAMILY}/*/objects.tar.zst", "blobs/*.zst"])
@pytest.mark.parametrize("gone", [True, False])
def test_what_is_damaged_is_not_used(
    build: Build, tmp_path: Path, pattern: str, gone: bool
) -> None:
    cache = tmp_path / "cache"
    build.keep(cache)
    (path,) = cache.glob(f"compiled/{pattern}")
    content = path.read_bytes()
    path.unlink()
    if not gone:
        path.write_bytes(content[: len(content) // 2])
    (tmp_path / "work").mkdir()
    objects, kept = KeptObjects(cache), found(cache, tmp_path)
    with pytest.raises(IntegrityError):
        objects.restore(kept, tmp_path / "work", NEW)
    objects.remove(kept)
    assert not list(cache.glob(f"compiled/{FAMILY}/*"))
    # What other kernels need, too, goes only where it is damaged itself.
    whole = "blobs" not in pattern
    assert len(list(cache.glob("compiled/blobs/*"))) == whole


def test_gc_collects_objects_by_their_use(build: Build, tmp_path: Path) -> None:
    site = Site(tmp_path / "root", None, (), 0)
    entry = build.keep(site.cache)
    blobs = list((site.cache / "compiled/blobs").iterdir())
    assert len(blobs) == 1
    for path in (entry / "manifest.json", *blobs):
        os.utime(path, (1, 1))
    (tmp_path / "work").mkdir()
    KeptObjects(site.cache).restore(found(site.cache, tmp_path), tmp_path / "work", NEW)
    assert collect(site, QUIET, Bounds(max_age=3600)) == []
    os.utime(blobs[0], (1, 1))
    assert [item.path for item in collect(site, QUIET, Bounds(max_age=3600))] == blobs
    assert [item.path for item in collect(site, QUIET, Bounds(everything=True))] == [entry]
    assert list(site.cache.glob("compiled/*")) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("comments", ["../a"]),
        ("blobs", [{"path": "/etc/x", "sha256": "0" * 64}]),
        ("blobs", [{"path": "x", "sha256": "../../x"}]),
        ("schema", 99),
    ],
)
def test_a_manifest_that_leads_elsewhere_is_none(
    build: Build, tmp_path: Path, key: str, value: object
) -> None:
    path = build.keep(tmp_path / "cache") / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    objects = KeptObjects(tmp_path / "cache")
    assert objects.find(FAMILY, survey(build.headers, OLD)) is None


def test_the_nearest_tree_and_the_differences_are_told(build: Build, tmp_path: Path) -> None:
    build.keep(tmp_path / "cache")
    new = headers(tmp_path / "new", NEW)
    write(new / "source/include/linux/module.h", "long module;\n")
    nearest = KeptObjects(tmp_path / "cache").nearest(FAMILY, survey(new, NEW))
    assert nearest is not None
    assert nearest[0].release == OLD
    assert nearest[1] == "1 file of the headers differs (source/include/linux/module.h)"
