"""Generations that nobody needs are removed; those that anything at all needs are not."""

from __future__ import annotations

import io
import mmap
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.generation.generation import Identity
from modulus.core.instance import Instance
from modulus.core.kernel.identity import KernelId
from modulus.host.files.atomic import scratch
from modulus.host.files.lock import locked
from modulus.host.generation.install import (
    Generation,
    activate,
    install_generation,
    write_selected,
)
from modulus.host.generation.last_good import record_good
from modulus.host.report.reporter import PlainReporter
from modulus.host.retention import collect_generations, homes, mark_used
from modulus.pipeline.cleaning import Bounds, collect
from modulus.pipeline.site import Site
from tests.support.elfmaker import kernel_module
from tests.support.fakeroot import NAME, RELEASE, FakeRoot, make_root, plain
from tests.support.fakesys import FakeSys
from tests.support.headertrees import write
from tests.support.kill import killed_at

PARAMETER = "sys/module/firmware_class/parameters/path"


class Node(FakeRoot):
    """A root on which 3.0 is the driver and 1.0 and 2.0 are what is left of it."""

    def add(self, version: str, release: str = RELEASE, sources: str = "") -> Generation:
        module = self.work / "driver.ko"
        info = {"version": version, "srcversion": sources or f"S{version}"}
        module.write_bytes(kernel_module(modinfo=info))
        return install_generation(
            self.root,
            Identity(Instance(NAME, version), "open", KernelId(release), "b" * 64),
            {"driver.ko": plain(module)},
            None,
            self.reporter,
        )

    def switch(self, generation: Generation) -> Generation:
        activate(self.driver, generation)
        write_selected(self.driver, generation.contents.identity.instance)
        return generation

    def collect(self) -> set[str]:
        return {one.path.name for one in collect_generations(self.driver, self.reporter)}

    @property
    def there(self) -> set[str]:
        return set(os.listdir(self.home))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = make_root(tmp_path)
    node = Node(made.root, made.work)
    write(node.root / "proc/sys/kernel/osrelease", f"{RELEASE}\n")
    return node


def test_what_nobody_needs_is_removed_and_said(node: Node) -> None:
    old, other = node.add("1.0"), node.add("2.0", "6.1.0-8-amd64")
    new = node.switch(node.add("3.0"))
    assert node.collect() == {old.name, other.name}
    assert node.there == {new.name}
    assert f"{old.name} ({NAME}-1.0 for {RELEASE}, 0 MB)" in node.log.getvalue()
    assert node.collect() == set()


def loaded(node: Node, old: Generation) -> None:
    FakeSys(node.root).module("driver")
    write(node.root / "sys/module/driver/version", "1.0\n")
    write(node.root / "sys/module/driver/srcversion", "S1.0\n")


def good(node: Node, old: Generation) -> None:
    record_good(node.driver, old)


@pytest.mark.parametrize(
    "needs",
    [
        lambda node, old: node.switch(old),
        lambda node, old: write_selected(node.driver, Instance(NAME, "1.0")),
        good,
        loaded,
        lambda node, old: mark_used(node.driver, old.name),
        lambda node, old: write(
            node.root / PARAMETER, f"/opt/drivers/.{NAME}/{old.name}/firmware"
        ),
        lambda node, old: FakeSys(node.root).process(
            7, maps=f"7f0-7f1 r-xp 0 fd:01 9 {old.path}/lib/libd.so.1\n"
        ),
        lambda node, old: write(
            node.root / "proc/7/mountinfo",
            f"36 35 98:0 /opt/drivers/.{NAME}/{old.name} /mnt ro - ext4 /dev/sda ro\n",
        ),
    ],
    ids=["active", "selected", "good", "loaded", "used", "firmware", "mapped", "mounted"],
)
def test_what_anything_needs_stays(
    node: Node, needs: Callable[[Node, Generation], object]
) -> None:
    old = node.add("1.0")
    new = node.switch(node.add("3.0"))
    needs(node, old)
    # It is that alone which keeps it.
    assert node.collect() <= {new.name}
    assert old.name in node.there


def test_what_real_processes_map_and_mount_is_seen(node: Node) -> None:
    mapped, mounted, none = (node.add(version) for version in ("1.0", "1.1", "1.2"))
    node.switch(node.add("3.0"))
    (node.work / "place").mkdir()
    script = 'mount --bind "$1" "$2" && echo done && read _'
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", mounted.path, node.work / "place"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    file = mapped.path / f"lib/modules/{RELEASE}/driver.ko"
    with (
        holder,
        open(file, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ),
    ):
        assert holder.stdout
        if not holder.stdout.readline():
            pytest.skip("mounts cannot be made here")
        for pid in (holder.pid, os.getpid()):
            (node.root / f"proc/{pid}").symlink_to(f"/proc/{pid}")
        try:
            assert node.collect() == {none.name}
        finally:
            holder.kill()
    (node.root / f"proc/{holder.pid}").unlink()
    assert node.collect() == {mapped.name, mounted.name}


def test_a_process_that_cannot_be_looked_at_keeps_all(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = node.add("1.0")
    node.switch(node.add("3.0"))
    FakeSys(node.root).process(7)
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "maps":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert (node.collect(), old.name in node.there) == (set(), True)
    assert "warning: old generations stay" in node.log.getvalue()


def test_of_equal_modules_those_of_the_active_one_are_loaded(node: Node) -> None:
    """One that was replaced since a library of it was damaged must not stay for ever."""
    old = node.add("1.0")
    (old.path / f"lib/modules/{RELEASE}/driver.ko").chmod(0o600)
    new = node.switch(node.add("1.0"))
    assert new.name == f"{old.name}.2"
    loaded(node, old)
    assert node.collect() == {old.name}


def test_what_has_no_manifest_is_removed_but_never_the_active_one(node: Node) -> None:
    old, new = node.add("1.0"), node.switch(node.add("3.0"))
    for each in (old, new):
        (each.path / "generation.json").unlink()
    assert node.collect() == {old.name}
    assert node.there == {new.name}


def test_mounts_are_read_once_for_all_processes_of_a_namespace(node: Node) -> None:
    old = node.add("1.0")
    node.switch(node.add("3.0"))
    # The last of them is of another namespace, which is to be looked at.
    for pid, space in ((7, 1), (8, 1), (9, 2)):
        (node.root / f"proc/{pid}/ns").mkdir(parents=True)
        (node.root / f"proc/{pid}/ns/mnt").symlink_to(f"mnt:[{space}]")
        write(node.root / f"proc/{pid}/maps", "")
        write(node.root / f"proc/{pid}/mountinfo", "")
    write(node.root / "proc/9/mountinfo", f"36 35 98:0 /{old.name} /d ro - ext4 /dev/sda ro\n")
    assert node.collect() == set()


def test_a_kill_leaves_each_whole_or_gone(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    old, new = node.add("1.0"), node.switch(node.add("3.0"))
    kept = node.work / "kept"
    shutil.copytree(old.path, kept, symlinks=True)
    whole = {path.relative_to(old.path) for path in old.path.rglob("*")}
    step = 1
    while killed_at(step, node.collect):
        assert new.name in node.there
        if old.name in node.there:
            assert {path.relative_to(old.path) for path in old.path.rglob("*")} == whole
        node.collect()
        assert node.there == {new.name}
        shutil.copytree(kept, old.path, symlinks=True)
        step += 1
    assert step > 15


def test_what_a_killed_installation_left_goes_too(node: Node) -> None:
    new = node.switch(node.add("3.0"))
    write(node.home / ".tmp.abcdefgh/lib/a.so")
    with scratch(node.home, "tmp") as used:
        assert node.collect() == set()
        assert node.there == {new.name, used.name}


def test_gc_removes_them_of_every_driver(node: Node) -> None:
    old = node.add("1.0")
    node.switch(node.add("3.0"))
    write(node.root / "opt/drivers/.other/1.0/lib/a.so")
    write(node.root / "opt/drivers/.driver.swap.abcdefgh/link")
    site = Site(node.root, None, (), 0)
    assert homes(node.root) == (NAME, "other")
    gone = collect(site, node.reporter, Bounds())
    assert {item.path.name for item in gone} == {old.name, "1.0"}
    assert all(item.size > 0 for item in gone)
    # The age is the builds'.
    assert collect(replace(site), node.reporter, Bounds(max_age=0)) == []


def test_gc_removes_what_killed_writers_left(node: Node) -> None:
    site = Site(node.root, None, (), 0)
    record = write(site.cache / "sources/driver-1.0.json")
    write(site.cache / "sources/.driver-1.0.json.abcdefgh")
    write(site.cache / "builds/6.1/.gone.abcdefgh/KEY/driver.ko")
    collect(site, node.reporter, Bounds())
    assert [path for path in site.cache.rglob("*") if path.is_file()] == [record]


def test_gc_does_not_remove_what_is_being_made(node: Node) -> None:
    node.add("1.0")
    lock = node.root / f"run/modulus/locks/up-{NAME}"
    with (
        locked(lock, "it", PlainReporter(io.StringIO()), 0),
        pytest.raises(Exception, match=f"the driver {NAME} is held by"),
    ):
        collect(Site(node.root, None, (), 0), node.reporter, Bounds())
