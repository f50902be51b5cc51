"""Assembly that a build may use again for kernels with other headers."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.dataclass import replace
from modulus.core.instance import Instance
from modulus.core.recipe import KNOWN, MADE
from modulus.errors import IntegrityError
from modulus.host import assembly
from modulus.host.archive import Archive
from modulus.host.headers import Headers
from modulus.host.kept import Kept, KeptObjects
from modulus.host.report import PlainReporter
from modulus.host.survey import survey
from modulus.pipeline import twin
from modulus.pipeline.node import Node
from modulus.pipeline.plan import plan
from modulus.pipeline.site import Site
from modulus.pipeline.upkeep import Bounds, collect
from tests.support.fakedriver import RELEASE, fake_node
from tests.support.headertrees import write
from tests.unit.test_twin import FAMILY, NEW, OLD, Build, found, headers

TEXTS = {hashlib.sha256(text.encode()).hexdigest(): text for text in ("nop\n", "ret\n" * 999)}
MODULE = "source/include/linux/module.h"


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path / "build")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make(folder: Path) -> Path:
    for name, text in TEXTS.items():
        write(folder / name, text, 0o600)
    return folder


def packed(path: Path) -> list[str]:
    return sorted(Archive(path, "tar").extract(path.parent / "x", lambda name: name).files)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def keep(build: Build, cache: Path, text: str = "") -> Kept:
    """Keeps it for headers of which one has ``text``."""
    if text:
        write(build.headers / MODULE, text)
    build.keep(cache)
    kept = KeptObjects(cache).find(FAMILY, survey(build.headers, OLD))
    assert kept is not None
    return kept


def test_it_is_laid_out_as_it_was_made(build: Build, cache: Path, tmp_path: Path) -> None:
    make(build.work / MADE)
    kept = keep(build, cache)
    KeptObjects(cache).lay_out_assembly(kept, tmp_path / KNOWN)
    assert contents(tmp_path / KNOWN) == TEXTS
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / KNOWN).iterdir()} == {0o644}


def test_nothing_but_slices_is_taken(build: Build, cache: Path, tmp_path: Path) -> None:
    made = make(build.work / MADE)
    for name in (
        "A" * 64,
        "a" * 63,
        "a" * 65,
        f".{'a' * 64}",
        "b" * 64 + ".s",
        f"c/{'a' * 64}",
    ):
        write(made / name)
    (made / ("d" * 64)).symlink_to(made / min(TEXTS))
    (made / ("e" * 64)).mkdir()
    os.mkfifo(made / ("f" * 64))
    kept = keep(build, cache)
    assert packed(kept.path / assembly.NAME) == sorted(TEXTS)


def test_it_is_no_part_of_the_objects(build: Build, cache: Path) -> None:
    without = packed(keep(build, cache).path / "objects.tar.zst")
    make(build.work / MADE)
    make(build.work / KNOWN)
    # It may tell the release, and be large.
    write(build.work / MADE / ("9" * 64), OLD * (1 << 17))
    kept = keep(build, cache, "other\n")
    assert packed(kept.path / "objects.tar.zst") == without
    assert len(kept.blobs) == 1


def test_a_link_in_its_place_is_not_followed(build: Build, cache: Path, tmp_path: Path) -> None:
    (build.work / MADE).symlink_to(make(tmp_path / "elsewhere"))
    assert keep(build, cache).assembly is None


def test_far_too_much_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path / MADE)
    with open(made / ("0" * 64), "wb") as file:
        file.truncate(8 << 40)
    assert assembly.pack(made, tmp_path / assembly.NAME) is None
    (made / ("0" * 64)).unlink()
    monkeypatch.setattr(assembly, "_MOST_FILES", 1)
    assert assembly.pack(made, tmp_path / assembly.NAME) is None
    assert not (tmp_path / assembly.NAME).exists()


@pytest.mark.parametrize("empty", [True, False])
def test_a_build_without_it_is_kept_and_used_as_ever(
    build: Build,
    cache: Path,
    tmp_path: Path,
    empty: bool,
) -> None:
    if empty:
        (build.work / MADE).mkdir()
    path = keep(build, cache).path
    assert not (path / assembly.NAME).exists()
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest.pop("assembly") is None
    # As an older version wrote it.
    (path / "manifest.json").write_text(json.dumps(manifest))
    objects, kept = KeptObjects(cache), found(cache, tmp_path)
    assert kept.assembly is None
    assert objects.nearest(FAMILY, survey(build.headers, OLD), with_assembly=True) is None
    objects.lay_out_assembly(kept, tmp_path / KNOWN)
    assert not (tmp_path / KNOWN).exists()
    (tmp_path / "work").mkdir()
    objects.restore(kept, tmp_path / "work", NEW)
    assert (tmp_path / "work/a.o").exists()


@pytest.mark.parametrize("fault", ["cut", "changed", "gone"])
def test_what_is_damaged_is_not_used_and_is_asked_but_once(
    build: Build,
    cache: Path,
    tmp_path: Path,
    fault: str,
) -> None:
    make(build.work / MADE)
    kept, objects = keep(build, cache), KeptObjects(cache)
    archive = kept.path / assembly.NAME
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] if fault == "cut" else content[:-1] + b"x")
    if fault == "gone":
        archive.unlink()
    with pytest.raises((IntegrityError, FileNotFoundError)):
        objects.lay_out_assembly(kept, tmp_path / "work" / KNOWN)
    assert not (tmp_path / "work" / KNOWN).exists()
    assert objects.nearest(FAMILY, survey(build.headers, OLD), with_assembly=True) is None
    # The objects are none the worse for it.
    objects.restore(kept, tmp_path / "work", NEW)


def test_that_of_the_nearest_headers_is_chosen(
    build: Build, cache: Path, tmp_path: Path
) -> None:
    write(build.headers / "source/include/linux/more.h")
    without = keep(build, cache, "nearest\n")
    make(build.work / MADE)
    near = keep(build, cache, "near\n")
    write(build.headers / "source/include/linux/more.h", "more\n")
    write(build.headers / "source/include/linux/most.h")
    keep(build, cache, "far\n")
    new = headers(tmp_path / "new", NEW)
    write(new / "source/include/linux/more.h")
    write(new / MODULE, "nearest\nbut one\n")
    objects = KeptObjects(cache)
    differs = f"1 file of the headers differs ({MODULE})"
    assert objects.nearest(FAMILY, survey(new, NEW), with_assembly=True) == (near, differs)
    write(new / MODULE, "nearest\n")
    write(new / f"{MODULE}.orig")
    one = f"1 file of the headers differs ({MODULE}.orig)"
    assert objects.nearest(FAMILY, survey(new, NEW)) == (without, one)


def test_its_use_keeps_the_whole_entry(build: Build, tmp_path: Path) -> None:
    site = Site(tmp_path / "root", None, (), 0, PlainReporter(io.StringIO()))
    make(build.work / MADE)
    kept = keep(build, site.cache)
    (blob,) = (site.cache / "compiled/blobs").iterdir()
    for path in (kept.path / "manifest.json", kept.path / assembly.NAME, blob):
        os.utime(path, (1, 1))
    KeptObjects(site.cache).lay_out_assembly(kept, tmp_path / KNOWN)
    assert collect(site, Bounds(max_age=3600)) == []
    assert [item.path for item in collect(site, Bounds(everything=True))].count(kept.path) == 1
    assert not kept.path.exists()


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Build, said: io.StringIO
) -> Iterator[Node]:
    """Its driver was compiled with the headers of ``build``."""
    for fake in fake_node(tmp_path, monkeypatch):
        batch = {"targets": "modules", "batch": True}
        fake.define(remake={"harmless": ["> note$"]}, make=batch)
        make(build.work / MADE)
        site = Site(fake.root, None, (), 0, PlainReporter(said))
        node = Node(site, Instance("gpu", "1.0"))
        twin.keep(node, plan(node, RELEASE), headers_at(build.headers), build.work.parent)
        yield node


def headers_at(path: Path) -> Headers:
    return Headers("", path, RELEASE, "packages", "")


def test_a_build_has_it_and_the_journal_says_so(
    node: Node, build: Build, tmp_path: Path, said: io.StringIO
) -> None:
    wanted = plan(node, RELEASE)
    assert twin.find(node, wanted, headers_at(build.headers)).near is None
    write(build.headers / MODULE, "long module;\n")
    found = twin.find(node, wanted, headers_at(build.headers))
    differs = f"1 file of the headers differs ({MODULE})"
    assert found.why == f"only what differs from {RELEASE} is compiled: {differs}"
    assert found.why in said.getvalue()
    assert found.twin is None
    assert found.near
    twin.lend(node, found.near, tmp_path / "work")
    assert contents(tmp_path / "work" / KNOWN) == TEXTS


def test_a_driver_compiled_object_by_object_has_no_use_for_it(node: Node, build: Build) -> None:
    write(build.headers / MODULE, "long module;\n")
    make = replace(node.profile.make, batch=False)
    alone = Node(node.site, node.instance)
    alone.profile = replace(node.profile, make=make)
    found = twin.find(alone, plan(node, RELEASE), headers_at(build.headers))
    assert found.near is None
    assert found.why.startswith(f"all is compiled: other headers than those of {RELEASE}: ")


@pytest.mark.parametrize("fault", ["damaged", "gone"])
def test_a_build_does_without_what_is_damaged(
    node: Node, build: Build, tmp_path: Path, said: io.StringIO, fault: str
) -> None:
    write(build.headers / MODULE, "long module;\n")
    found = twin.find(node, plan(node, RELEASE), headers_at(build.headers))
    assert found.near
    archive = found.near.path / assembly.NAME
    if fault == "gone":
        archive.unlink()
    else:
        archive.write_bytes(b"damaged")
    (tmp_path / "work").mkdir()
    twin.lend(node, found.near, tmp_path / "work")
    assert "all is compiled after all: " in said.getvalue()
    assert not list((tmp_path / "work").iterdir())
