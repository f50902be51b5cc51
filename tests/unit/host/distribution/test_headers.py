"""How headers are recorded, found again and checked."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN, UBUNTU, Distribution
from modulus.errors import ToolchainError
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.files.tree_digest import tree_digest
from modulus.host.report.reporter import PlainReporter
from tests.support import headertrees
from tests.support.fakedriver import store_entry
from tests.support.headertrees import RELEASE, write
from tests.support.syncs import note_synced

BOOKWORM = Distribution(DEBIAN, "bookworm", "amd64")


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
            offline=offline,
        )

    @property
    def reporter(self) -> PlainReporter:
        return PlainReporter(self.said)

    def entries(self) -> list[Path]:
        return sorted((self.cache / "headers").glob("*"))


@pytest.fixture
def a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_the_cache_itself_lasts(a_node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    headertrees.debian(a_node.root)
    synced = note_synced(monkeypatch)
    a_node.provisioner().headers(RELEASE, a_node.reporter)
    assert str(a_node.cache.parent) in synced


def test_a_tree_by_an_older_name_is_found(a_node: Node) -> None:
    """Their content has the same digest: an upgrade has no offline node without headers."""
    headertrees.single(a_node.root)
    headers = a_node.provisioner().headers(RELEASE, a_node.reporter)
    path = a_node.entries()[0] / "record.json"
    record = json.loads(path.read_text())
    record["found_by"] = [name.replace("node/", "node/1/") for name in record["found_by"]]
    path.write_text(json.dumps(record))
    assert a_node.provisioner().headers_recorded(RELEASE) == headers


def test_the_nodes_own_tree(a_node: Node) -> None:
    headertrees.debian(a_node.root)
    provisioner = a_node.provisioner()
    assert provisioner.headers_recorded(RELEASE) is None
    headers = provisioner.headers(RELEASE, a_node.reporter)
    assert (headers.release, headers.origin) == (RELEASE, "node")
    assert headers.path == a_node.cache / "headers" / headers.id / "tree"
    assert headers.config.compiler.command == "gcc-12"
    assert len(headers.symvers_sha256) == 64
    assert provisioner.headers_recorded(RELEASE) == headers
    assert [path.name for path in a_node.entries()] == [headers.id]


def test_a_tree_of_an_unknown_distribution(a_node: Node) -> None:
    headertrees.in_place(a_node.root)
    assert a_node.provisioner(None).headers(RELEASE, a_node.reporter).origin == "node"


def test_a_touched_tree_is_looked_at_again(a_node: Node) -> None:
    headertrees.single(a_node.root)
    provisioner = a_node.provisioner()
    first = provisioner.headers(RELEASE, a_node.reporter)
    os.utime(a_node.root / "usr/src/linux/Module.symvers", (1, 1))
    assert provisioner.headers_recorded(RELEASE) is None
    assert provisioner.headers(RELEASE, a_node.reporter) == first
    assert provisioner.headers_recorded(RELEASE) == first
    record = json.loads((a_node.entries()[0] / "record.json").read_text())
    assert len(record["found_by"]) == 2


def test_a_changed_tree_is_another(a_node: Node) -> None:
    headertrees.single(a_node.root)
    first = a_node.provisioner().headers(RELEASE, a_node.reporter)
    write(a_node.root / "usr/src/linux/Module.symvers", "0x3\n")
    second = a_node.provisioner().headers(RELEASE, a_node.reporter)
    assert second.id != first.id
    assert second.symvers_sha256 != first.symvers_sha256
    assert len(a_node.entries()) == 2


def test_a_damaged_entry_is_made_again(a_node: Node) -> None:
    headertrees.single(a_node.root)
    provisioner = a_node.provisioner()
    first = provisioner.headers(RELEASE, a_node.reporter)
    (first.path / "build/Module.symvers").unlink()
    assert provisioner.headers_recorded(RELEASE) is None
    assert provisioner.headers(RELEASE, a_node.reporter) == first
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
    first = a_node.provisioner().headers(RELEASE, a_node.reporter)
    spoil(first.path / "source")
    # Nothing is hashed for a plan.
    assert a_node.provisioner().headers_recorded(RELEASE) == first
    assert a_node.provisioner().headers(RELEASE, a_node.reporter) == first
    assert tree_digest(first.path) == first.id
    assert f"{first.folder} (the headers of {RELEASE}) is bad" in a_node.said.getvalue()
    (aside,) = (a_node.cache / "bad").iterdir()
    assert aside.name.startswith(f"{first.id}.")
    assert (aside / "record.json").exists()


def test_a_tree_that_changed_is_not_taken_for_the_same_that_comes_again(a_node: Node) -> None:
    headertrees.single(a_node.root)
    first = a_node.provisioner().headers(RELEASE, a_node.reporter)
    change(first.path / "source/include/linux/module.h")
    # Not found by its name, so that it is read again, and is what was there before.
    os.utime(a_node.root / "usr/src/linux/Module.symvers", (1, 1))
    assert a_node.provisioner().headers(RELEASE, a_node.reporter) == first
    assert tree_digest(first.path) == first.id


def test_a_bad_tree_of_a_store_stays_there_and_is_not_used(a_node: Node) -> None:
    headertrees.single(a_node.root)
    first = a_node.provisioner().headers(RELEASE, a_node.reporter)
    a_node.cache.rename(a_node.store)
    stored = a_node.store / "headers" / first.id
    assert a_node.provisioner().headers(RELEASE, a_node.reporter).folder == stored
    change(stored / "tree/source/include/linux/module.h")
    assert a_node.provisioner().headers(RELEASE, a_node.reporter) == first
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
    a_node.provisioner().headers(RELEASE, a_node.reporter)
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
    assert a_node.provisioner().headers(RELEASE, a_node.reporter) == found


TRIXIE = Distribution(DEBIAN, "trixie", "amd64")
JAMMY = Distribution(UBUNTU, "jammy", "amd64")


@pytest.mark.parametrize(
    ("status", "known", "by", "is_found"),
    [
        ("install ok installed", "6.1.27-1", TRIXIE, True),
        ("install ok installed", "6.1.20-1", TRIXIE, False),
        # Whoever provided them had the kernel installed, or not.
        ("install ok half-installed", "6.1.27-1", BOOKWORM, True),
        ("install ok unpacked", "none", TRIXIE, True),
        ("", "6.1.27-1", TRIXIE, True),
        ("install ok installed", "6.1.27-1", JAMMY, False),
        ("install ok installed", "6.1.27-1", Distribution(DEBIAN, "trixie", "arm64"), False),
    ],
)
def test_headers_of_packages_are_found_after_an_upgrade_and_in_one(
    a_node: Node, status: str, known: str, by: Distribution, is_found: bool
) -> None:
    if status:
        image = f"Package: linux-image-{RELEASE}\nStatus: {status}\nVersion: 6.1.27-1\n"
        write(a_node.root / "var/lib/dpkg/status", image)
    store_entry(
        a_node.store / "headers",
        {"tree/build/Module.symvers": ""},
        release=RELEASE,
        origin="packages",
        symvers_sha256="0" * 64,
        found_by=[f"packages/{by}/{RELEASE}/{known}"],
    )
    provisioner = a_node.provisioner()
    assert (provisioner.headers_recorded(RELEASE) is not None) is is_found
    assert provisioner.headers_recorded(RELEASE.replace("6.1", "6x1")) is None


def test_offline_says_what_to_do(a_node: Node) -> None:
    headertrees.single(a_node.root)
    (a_node.root / "usr/src/linux/Module.symvers").unlink()
    with pytest.raises(ToolchainError, match="offline") as caught:
        a_node.provisioner().headers(RELEASE, a_node.reporter)
    assert "stores" in caught.value.hint
    assert "it has no Module.symvers" in a_node.said.getvalue()
    assert a_node.entries() == []


def test_unknown_distribution_without_a_tree(a_node: Node) -> None:
    with pytest.raises(ToolchainError, match=f"no headers of kernel {RELEASE}") as caught:
        a_node.provisioner(None).headers(RELEASE, a_node.reporter)
    assert f"/lib/modules/{RELEASE}/build" in caught.value.hint


def test_no_apt(a_node: Node) -> None:
    with pytest.raises(ToolchainError, match="apt-get is not installed") as caught:
        a_node.provisioner(offline=False).headers(RELEASE, a_node.reporter)
    assert caught.value.code == 13


def test_a_cache_that_cannot_be_written(a_node: Node) -> None:
    headertrees.single(a_node.root)
    write(a_node.cache, "a file\n")
    with pytest.raises(ToolchainError) as caught:
        a_node.provisioner().headers(RELEASE, a_node.reporter)
    assert str(a_node.cache) in caught.value.hint
