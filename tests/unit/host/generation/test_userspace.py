"""A userspace in the cache, made from a package."""

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

from modulus.core.package.userspace import Selection, plan_layout
from modulus.core.profile.profile import ComponentRule as Rule
from modulus.errors import IntegrityError
from modulus.host.archive.reader import Archive, Extracted
from modulus.host.files.atomic import remove_tree
from modulus.host.generation.userspace import Userspace, provide_userspace
from modulus.host.report.reporter import PlainReporter, Reporter
from tests.support.kill import killed_at
from tests.support.library import shared_library
from tests.support.userspace import ALL, MANIFEST, manifest


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
