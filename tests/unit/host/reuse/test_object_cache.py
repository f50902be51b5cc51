"""When nothing is compiled for a kernel, and what is kept for it."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import pytest

from modulus.core.build import twin
from modulus.errors import IntegrityError
from modulus.host.report.reporter import PlainReporter
from modulus.host.reuse.header_digest import survey
from modulus.host.reuse.object_cache import Kept, KeptObjects
from modulus.host.reuse.reuse_rules import UnfitError
from modulus.pipeline.cleaning import Bounds, collect
from modulus.pipeline.site import Site
from tests.support.headertrees import write

OLD, NEW = "6.1.0-55-amd64", "6.1.0-56-amd64"
FAMILY = "f" * 64
GENERATED = "build/include/generated"


def headers(root: Path, release: str) -> Path:
    """A header tree in the normal form, with all that tells the release."""
    texts = {
        "build/.config": f'CONFIG_SMP=y\nCONFIG_BUILD_SALT="{release}"\n',
        "build/.kernelvariables": f"override ARCH = x86\noverride KERNELRELEASE = {release}\n",
        "build/Module.symvers": f"0x{len(root.name):08x}\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n",
        "build/include/config/auto.conf": f"CONFIG_SMP=y\nCONFIG_BUILD_SALT={release}\n",
        "build/include/config/kernel.release": f"{release}\n",
        f"{GENERATED}/autoconf.h": f'#define CONFIG_BUILD_SALT "{release}"\n',
        f"{GENERATED}/compile.h": '#define LINUX_COMPILER "gcc"\n',
        f"{GENERATED}/package.h": f'#define LINUX_PACKAGE_ID " Debian {release}"\n',
        f"{GENERATED}/utsrelease.h": f'#define UTS_RELEASE "{release}"\n',
        f"{GENERATED}/utsversion.h": f'#define UTS_VERSION "#1 {release}"\n',
        f"{GENERATED}/uapi/linux/version.h": "#define LINUX_VERSION_CODE 393664\n",
        "source/include/linux/build-salt.h": "CONFIG_BUILD_SALT\n",
        "source/include/linux/module.h": "int module;\n",
        "source/include/linux/vermagic.h": "UTS_RELEASE\n",
    }
    for name, text in texts.items():
        write(root / name, text)
    return root


def command(target: str, source: str, *read: str) -> str:
    lines = "".join(f"  {path} \\\n" for path in read)
    return (
        f"cmd_/build/{target} := gcc -c\n\nsource_/build/{target} := /build/{source}\n\n"
        f"deps_/build/{target} := \\\n    $(wildcard include/config/SMP) \\\n{lines}\n"
        f"/build/{target}: $(deps_/build/{target})\n"
    )


class Build:
    """A finished build of a small driver: sources, build folder and headers."""

    def __init__(self, folder: Path) -> None:
        self.headers = headers(folder / "headers", OLD)
        self.sources, self.work = folder / "src", folder / "work"
        for place in (self.sources, self.work):
            write(place / "a.c", "int a;\n")
            write(place / "b.c", "char b[] = UTS_RELEASE;\n")
            write(place / "test.sh", "echo UTS_RELEASE > note\n")
            write(place / "blob.o_binary", "vendor" * (1 << 18))
        write(self.work / "a.o", "object a\n")
        write(self.work / "b.o", f"object b {OLD}\n")
        module = "/usr/src/linux/source/include/linux/module.h"
        told = "include/generated/utsrelease.h"
        write(self.work / ".a.o.cmd", command("a.o", "a.c", module, told, "/build/note.h"))
        write(self.work / ".b.o.cmd", command("b.o", "b.c", module, told))
        write(self.work / "m.o", "linked\n")
        write(self.work / ".m.o.cmd", "cmd_/build/m.o := ld -r -o /build/m.o @/build/m.mod\n")
        write(self.work / "m.mod", "/build/a.o\n/build/b.o\n")
        for name in ("m.ko", "m.mod.c", "m.mod.o", ".m.ko.cmd", "Module.symvers"):
            write(self.work / name, OLD)
        write(self.work / "note.h", f"// for {OLD}\n#define HAS_X\n")
        write(self.work / "summary.txt", f"built for {OLD}\n")
        (self.work / "blob.o").symlink_to("/build/blob.o_binary")

    def keep(self, cache: Path, harmless: str = r"^echo UTS_RELEASE > note$") -> Path:
        return KeptObjects(cache).keep(
            FAMILY,
            survey(self.headers, OLD),
            OLD,
            recipe="a" * 64,
            work=self.work,
            sources=self.sources,
            headers=self.headers,
            harmless=[re.compile(harmless)],
        )


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path / "build")


def found(cache: Path, tmp_path: Path) -> Kept:
    kept = KeptObjects(cache).find(FAMILY, survey(headers(tmp_path / "newer", NEW), NEW))
    assert kept is not None
    return kept


def test_trees_that_differ_in_the_release_alone_are_twins(tmp_path: Path) -> None:
    old, new = headers(tmp_path / "one", OLD), headers(tmp_path / "second", NEW)
    assert survey(old, OLD).digest == survey(new, NEW).digest


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (f"{GENERATED}/uapi/linux/version.h", "#define LINUX_VERSION_CODE 393665\n"),
        (f"{GENERATED}/compile.h", '#define LINUX_COMPILER "clang"\n'),
        (f"{GENERATED}/utsrelease.h", f'#define UTS_RELEASE "{NEW}"\n#define X\n'),
        (f"{GENERATED}/utsrelease.h", "#define UTS_RELEASE 7\n"),
        ("build/.config", f'CONFIG_SMP=n\nCONFIG_BUILD_SALT="{NEW}"\n'),
        ("build/.kernelvariables", "override ARCH = x86\noverride KERNELRELEASE = other\n"),
        ("build/include/config/kernel.release", "other\n"),
        ("build/Module.symvers", "0x0\tprintk\tvmlinux\tEXPORT_SYMBOL_GPL\t\n"),
        ("build/include/linux/module.h", "found first\n"),
        ("source/include/linux/module.h", f'#define UTS_RELEASE "{NEW}"\n'),
    ],
)
def test_any_other_difference_makes_another_tree(tmp_path: Path, path: str, text: str) -> None:
    old, new = headers(tmp_path / "old", OLD), headers(tmp_path / "new", NEW)
    write(new / path, text)
    assert survey(old, OLD).digest != survey(new, NEW).digest


def test_a_mode_or_a_link_makes_another_tree(tmp_path: Path) -> None:
    tree = headers(tmp_path / "tree", OLD)
    first = survey(tree, OLD).digest
    (tree / "source/include/linux/module.h").chmod(0o755)
    second = survey(tree, OLD).digest
    (tree / "source/include/linux/alias.h").symlink_to("module.h")
    assert len({first, second, survey(tree, OLD).digest}) == 3


def test_the_family_is_all_of_the_key_but_kernel_and_headers() -> None:
    inputs = {"kernel": OLD, "headers": "1", "symvers": "2", "toolchain": "3"}
    family = twin.family(inputs, "a")
    assert family == twin.family({**inputs, "kernel": NEW, "headers": "x"}, "a")
    assert family != twin.family({**inputs, "toolchain": "4"}, "a")
    assert family != twin.family(inputs, "b")


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
    site = Site(tmp_path / "root", None, (), 0, PlainReporter(io.StringIO()))
    entry = build.keep(site.cache)
    blobs = list((site.cache / "compiled/blobs").iterdir())
    assert len(blobs) == 1
    for path in (entry / "manifest.json", *blobs):
        os.utime(path, (1, 1))
    (tmp_path / "work").mkdir()
    KeptObjects(site.cache).restore(found(site.cache, tmp_path), tmp_path / "work", NEW)
    assert collect(site, Bounds(max_age=3600)) == []
    os.utime(blobs[0], (1, 1))
    assert [item.path for item in collect(site, Bounds(max_age=3600))] == blobs
    assert [item.path for item in collect(site, Bounds(everything=True))] == [entry]
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


@pytest.mark.parametrize(
    ("text", "only"),
    [
        (f"// {OLD}\nint x;\n", True),
        (f"  // {OLD}\n", True),
        (f"// {OLD}\nint x; // {OLD}\n", False),
        (f"// {OLD} \\\nint x;\n", False),
        (f'"{OLD}"\n', False),
        (f"// {OLD}\n\0", False),
    ],
)
def test_a_comment_is_a_line_that_is_nothing_else(text: str, only: bool) -> None:
    assert twin.only_in_comments(text.encode(), OLD) is only


def test_a_linked_object_has_no_list_of_what_was_read() -> None:
    assert twin.files_read("cmd_/build/m.o := ld -r -o m.o a.o\n") is None
    assert twin.files_read(command("a.o", "a.c", "x.h", "/y/z.h")) == (
        *("/build/a.c", "x.h", "/y/z.h"),
    )
