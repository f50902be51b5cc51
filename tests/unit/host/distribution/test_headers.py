"""Header trees: their normal form, and how recorded ones are found again."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN, Distribution
from modulus.errors import ToolchainError
from modulus.host.distribution import header_form, header_tree
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.files.tree_digest import tree_digest
from modulus.host.report.reporter import PlainReporter
from tests.support import headertrees
from tests.support.fakedriver import store_entry
from tests.support.headertrees import RELEASE, link, write
from tests.support.syncs import note_synced

BOOKWORM = Distribution(DEBIAN, "bookworm", "amd64")
UBUNTU_RELEASE = "5.15.0-91-generic"

Maker = Callable[[Path], None]
LAYOUTS: list[tuple[Maker, str, set[str]]] = [
    (headertrees.debian, RELEASE, {"build", "source", "kbuild"}),
    (headertrees.ubuntu, UBUNTU_RELEASE, {"build", "source", "common"}),
    (headertrees.single, RELEASE, {"build", "source"}),
    (headertrees.in_place, RELEASE, {"build", "source"}),
    (headertrees.output_folder, RELEASE, {"build", "source"}),
]
layouts = pytest.mark.parametrize(
    ("make", "release", "parts"), LAYOUTS, ids=[make.__name__ for make, _, _ in LAYOUTS]
)


def normalised(root: Path, release: str, into: Path, *, move: bool = False) -> str:
    tree = header_tree.find(root, release)
    assert tree is not None
    assert header_tree.objection(tree, release) is None
    return header_form.normalise(tree, into, move=move)


@layouts
def test_normal_form(tmp_path: Path, make: Maker, release: str, parts: set[str]) -> None:
    make(tmp_path / "root")
    into = tmp_path / "tree"
    normalised(tmp_path / "root", release, into)
    assert {path.name for path in into.iterdir()} == parts
    for path in into.rglob("*"):
        assert path.resolve().is_relative_to(into.resolve())
        assert path.exists()
        if path.is_symlink():
            assert not os.readlink(path).startswith("/")
        elif path.is_file():
            assert path.stat().st_mode & 0o777 == (0o755 if "#!" in path.read_text() else 0o644)
    for name in ("vmlinux", "kernel/module.c", "scripts/mod/empty.o", ".git", "built-in.a"):
        assert not os.path.lexists(into / "build" / name)
        assert not os.path.lexists(into / "source" / name)
    for name in ("include/linux/module.h", "include/linux/alias.h", "scripts/mod/modpost.c"):
        assert any((into / part / name).is_file() for part in parts)
    makefile = (into / "build/Makefile").read_text()
    assert "/usr/src" not in makefile
    assert "/home" not in makefile


@layouts
def test_equal_trees_are_equal(
    tmp_path: Path, make: Maker, release: str, parts: set[str]
) -> None:
    first, second = tmp_path / "a", tmp_path / "another/place"
    make(first)
    make(second)
    for path in second.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o020)
            os.utime(path, (1, 1))
    one = normalised(first, release, tmp_path / "1")
    assert normalised(second, release, tmp_path / "2", move=True) == one
    write(first / "usr/src/linux-headers-x")
    assert normalised(first, release, tmp_path / "3") == one


@pytest.mark.parametrize(
    "change",
    [
        lambda build: write(
            build / "Module.symvers", "0x2\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"
        ),
        lambda build: write(build / "include/new.h"),
        lambda build: (build / "include/generated/autoconf.h").chmod(0o755),
        lambda build: link(build / "include/new.h", "generated/autoconf.h"),
    ],
)
def test_any_change_shows(tmp_path: Path, change: Callable[[Path], object]) -> None:
    headertrees.debian(tmp_path / "root")
    before = normalised(tmp_path / "root", RELEASE, tmp_path / "1")
    change(tmp_path / f"root/usr/src/linux-headers-{RELEASE}")
    assert normalised(tmp_path / "root", RELEASE, tmp_path / "2") != before


def test_debian_makefile_is_the_one_that_works_anywhere(tmp_path: Path) -> None:
    headertrees.debian(tmp_path / "root")
    normalised(tmp_path / "root", RELEASE, tmp_path / "tree")
    assert (tmp_path / "tree/build/Makefile").read_text() == (
        "include $(dir $(realpath $(lastword $(MAKEFILE_LIST))))../source/Makefile\n"
    )
    assert os.readlink(tmp_path / "tree/build/tools") == "../kbuild/tools"


def test_dangling_links_go(tmp_path: Path) -> None:
    headertrees.debian(tmp_path / "root")
    build = tmp_path / f"root/usr/src/linux-headers-{RELEASE}"
    link(build / "only/dangling", "/boot/nothing")
    link(build / "kernel.c", "vmlinux")
    link(build / "chain", "kernel.c")
    normalised(tmp_path / "root", RELEASE, tmp_path / "tree")
    for name in ("only", "kernel.c", "chain"):
        assert not os.path.lexists(tmp_path / "tree/build" / name)


def test_a_link_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    headertrees.single(tmp_path / "root")
    write(tmp_path / "root/etc/shadow", "secret\n")
    link(tmp_path / "root/usr/src/linux/include/evil.h", "../../../../etc/shadow")
    with pytest.raises(ToolchainError, match="leads out of it, to /etc/shadow"):
        normalised(tmp_path / "root", RELEASE, tmp_path / "tree")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".config", "it has no .config"),
        ("Module.symvers", "it has no Module.symvers"),
        ("scripts/mod/modpost", "it has no scripts/mod/modpost"),
        ("scripts/basic/fixdep", "it has no scripts/basic/fixdep"),
        ("tools/objtool/objtool", "it has no tools/objtool/objtool"),
        ("include/generated/autoconf.h", "it has no include/generated/autoconf.h"),
        ("include/generated/utsrelease.h", "it is for kernel unknown"),
    ],
)
def test_incomplete_trees(tmp_path: Path, name: str, reason: str) -> None:
    headertrees.single(tmp_path)
    (tmp_path / "usr/src/linux" / name).unlink()
    tree = header_tree.find(tmp_path, RELEASE)
    assert tree is not None
    assert header_tree.objection(tree, RELEASE) == reason


def test_a_tree_of_another_kernel(tmp_path: Path) -> None:
    headertrees.single(tmp_path, "6.1.0-98-amd64")
    link(tmp_path / f"lib/modules/{RELEASE}/build", "/usr/src/linux")
    tree = header_tree.find(tmp_path, RELEASE)
    assert tree is not None
    assert header_tree.objection(tree, RELEASE) == "it is for kernel 6.1.0-98-amd64"


def test_no_tree(tmp_path: Path) -> None:
    assert header_tree.find(tmp_path, RELEASE) is None
    headertrees.modules(tmp_path, RELEASE, "/usr/src/gone")
    assert header_tree.find(tmp_path, RELEASE) is None


class Node:
    """A fake node with a cache, on which no program can be run."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.cache, self.store = base / "root", base / "cache", base / "store"
        self.said = io.StringIO()
        monkeypatch.setenv("PATH", str(base / "nothing"))

    def provisioner(
        self, distribution: Distribution | None = BOOKWORM, *, offline: bool = True
    ) -> Provisioner:
        return Provisioner(
            self.cache,
            self.root,
            distribution,
            [self.store],
            PlainReporter(self.said),
            offline=offline,
        )

    def entries(self) -> list[Path]:
        return sorted((self.cache / "headers").glob("*"))


@pytest.fixture
def a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_the_cache_itself_lasts(a_node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    headertrees.debian(a_node.root)
    synced = note_synced(monkeypatch)
    a_node.provisioner().headers(RELEASE)
    assert str(a_node.cache.parent) in synced


def test_a_tree_by_an_older_name_is_found(a_node: Node) -> None:
    """Their content has the same digest: an upgrade has no offline node without headers."""
    headertrees.single(a_node.root)
    headers = a_node.provisioner().headers(RELEASE)
    path = a_node.entries()[0] / "record.json"
    record = json.loads(path.read_text())
    record["found_by"] = [name.replace("node/", "node/1/") for name in record["found_by"]]
    path.write_text(json.dumps(record))
    assert a_node.provisioner().headers_recorded(RELEASE) == headers


def test_the_nodes_own_tree(a_node: Node) -> None:
    headertrees.debian(a_node.root)
    provisioner = a_node.provisioner()
    assert provisioner.headers_recorded(RELEASE) is None
    headers = provisioner.headers(RELEASE)
    assert (headers.release, headers.origin) == (RELEASE, "node")
    assert headers.path == a_node.cache / "headers" / headers.id / "tree"
    assert headers.config.compiler.command == "gcc-12"
    assert len(headers.symvers_sha256) == 64
    assert provisioner.headers_recorded(RELEASE) == headers
    assert [path.name for path in a_node.entries()] == [headers.id]


def test_a_tree_of_an_unknown_distribution(a_node: Node) -> None:
    headertrees.in_place(a_node.root)
    assert a_node.provisioner(None).headers(RELEASE).origin == "node"


def test_a_touched_tree_is_looked_at_again(a_node: Node) -> None:
    headertrees.single(a_node.root)
    provisioner = a_node.provisioner()
    first = provisioner.headers(RELEASE)
    os.utime(a_node.root / "usr/src/linux/Module.symvers", (1, 1))
    assert provisioner.headers_recorded(RELEASE) is None
    assert provisioner.headers(RELEASE) == first
    assert provisioner.headers_recorded(RELEASE) == first
    record = json.loads((a_node.entries()[0] / "record.json").read_text())
    assert len(record["found_by"]) == 2


def test_a_changed_tree_is_another(a_node: Node) -> None:
    headertrees.single(a_node.root)
    first = a_node.provisioner().headers(RELEASE)
    write(a_node.root / "usr/src/linux/Module.symvers", "0x3\n")
    second = a_node.provisioner().headers(RELEASE)
    assert second.id != first.id
    assert second.symvers_sha256 != first.symvers_sha256
    assert len(a_node.entries()) == 2


def test_a_damaged_entry_is_made_again(a_node: Node) -> None:
    headertrees.single(a_node.root)
    provisioner = a_node.provisioner()
    first = provisioner.headers(RELEASE)
    (first.path / "build/Module.symvers").unlink()
    assert provisioner.headers_recorded(RELEASE) is None
    assert provisioner.headers(RELEASE) == first
    assert (first.path / "build/Module.symvers").is_file()


def change(path: Path) -> None:
    """One letter, of which neither size nor times tell."""
    before = path.stat()
    path.write_text(path.read_text()[:-1] + "?")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: list[Callable[[Path], object]] = [
    lambda source: change(source / "include/linux/module.h"),
    lambda source: (source / "include/linux/module.h").chmod(0o755),
    lambda source: (source / "include/linux/module.h").unlink(),
    lambda source: write(source / "include/linux/new.h"),
    lambda source: (source / "include/linux/alias.h").unlink(),
    lambda source: os.mkfifo(source / "pipe"),
    lambda source: (source / "include/linux/module.h").chmod(0o646),
]


@pytest.mark.parametrize("spoil", CHANGES)
def test_a_tree_that_changed_is_set_aside_and_taken_anew(
    a_node: Node, spoil: Callable[[Path], object]
) -> None:
    headertrees.single(a_node.root)
    first = a_node.provisioner().headers(RELEASE)
    spoil(first.path / "source")
    # Nothing is hashed for a plan.
    assert a_node.provisioner().headers_recorded(RELEASE) == first
    assert a_node.provisioner().headers(RELEASE) == first
    assert tree_digest(first.path) == first.id
    assert f"{first.folder} (the headers of {RELEASE}) is bad" in a_node.said.getvalue()
    (aside,) = (a_node.cache / "bad").iterdir()
    assert aside.name.startswith(f"{first.id}.")
    assert (aside / "record.json").exists()


def test_a_tree_that_changed_is_not_taken_for_the_same_that_comes_again(a_node: Node) -> None:
    headertrees.single(a_node.root)
    first = a_node.provisioner().headers(RELEASE)
    change(first.path / "source/include/linux/module.h")
    # Not found by its name, so that it is read again, and is what was there before.
    os.utime(a_node.root / "usr/src/linux/Module.symvers", (1, 1))
    assert a_node.provisioner().headers(RELEASE) == first
    assert tree_digest(first.path) == first.id


def test_a_bad_tree_of_a_store_stays_there_and_is_not_used(a_node: Node) -> None:
    headertrees.single(a_node.root)
    first = a_node.provisioner().headers(RELEASE)
    a_node.cache.rename(a_node.store)
    stored = a_node.store / "headers" / first.id
    assert a_node.provisioner().headers(RELEASE).folder == stored
    change(stored / "tree/source/include/linux/module.h")
    assert a_node.provisioner().headers(RELEASE) == first
    assert stored.is_dir()
    assert not (a_node.store / "bad").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_what_others_may_write_is_no_tree_to_build_with(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    write(folder / "a/b")
    before = tree_digest(folder)
    os.chown(folder / "a/b", 1000, 1000)
    with pytest.raises(ValueError, match=r"^a/b: it belongs to user 1000$"):
        tree_digest(folder)
    # But for who may write all of it: such a store is trusted, or is not read.
    os.chown(folder, 1000, 1000)
    assert tree_digest(folder) == before
    (folder / "a").chmod(0o777)
    with pytest.raises(ValueError, match=r"^a: anyone may write it$"):
        tree_digest(folder)


def test_what_a_killed_process_left_is_swept(a_node: Node) -> None:
    headertrees.single(a_node.root)
    write(a_node.cache / "headers/.new.abc/tree/build/Makefile")
    a_node.provisioner().headers(RELEASE)
    assert not (a_node.cache / "headers/.new.abc").exists()


@pytest.mark.parametrize("image", ["6.1.27-1", None])
def test_headers_of_packages_are_found_by_the_image(a_node: Node, image: str | None) -> None:
    """An extra store that another node filled serves this one if the kernel is the same."""
    if image:
        write(
            a_node.root / "var/lib/dpkg/status",
            f"Package: linux-image-{RELEASE}\nStatus: install ok installed\nVersion: {image}\n",
        )
    stored = {
        version: store_entry(
            a_node.store / "headers",
            {"tree/build/Module.symvers": version},
            release=RELEASE,
            origin="packages",
            symvers_sha256="0" * 64,
            found_by=[f"packages/debian/bookworm/amd64/{RELEASE}/{version}"],
        )
        for version in ("6.1.27-1", "6.1.20-1", "none")
    }
    write(a_node.store / "headers/junk/record.json", "[]")
    found = a_node.provisioner().headers_recorded(RELEASE)
    assert found is not None
    assert found.id == stored[image or "none"].name
    assert a_node.provisioner().headers_recorded("6.1.0-1-amd64") is None
    assert a_node.provisioner().headers(RELEASE) == found


def test_offline_says_what_to_do(a_node: Node) -> None:
    headertrees.single(a_node.root)
    (a_node.root / "usr/src/linux/Module.symvers").unlink()
    with pytest.raises(ToolchainError, match="offline") as caught:
        a_node.provisioner().headers(RELEASE)
    assert "stores" in caught.value.hint
    assert "it has no Module.symvers" in a_node.said.getvalue()
    assert a_node.entries() == []


def test_unknown_distribution_without_a_tree(a_node: Node) -> None:
    with pytest.raises(ToolchainError, match=f"no headers of kernel {RELEASE}") as caught:
        a_node.provisioner(None).headers(RELEASE)
    assert f"/lib/modules/{RELEASE}/build" in caught.value.hint


def test_no_apt_source(a_node: Node) -> None:
    distribution = Distribution(DEBIAN, "nosuchrelease", "amd64")
    write(a_node.root / "etc/apt/sources.list", "deb http://127.0.0.1/x bookworm main\n")
    with pytest.raises(ToolchainError, match="no apt source") as caught:
        a_node.provisioner(distribution, offline=False).headers(RELEASE)
    assert caught.value.code == 13


def test_a_cache_that_cannot_be_written(a_node: Node) -> None:
    headertrees.single(a_node.root)
    write(a_node.cache, "a file\n")
    with pytest.raises(ToolchainError) as caught:
        a_node.provisioner().headers(RELEASE)
    assert str(a_node.cache) in caught.value.hint
