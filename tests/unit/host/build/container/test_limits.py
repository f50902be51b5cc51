"""Control groups: finding them, and making them in a tree that looks like cgroup v1 or v2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modulus.host.build.container import limits
from modulus.host.build.container.limits import Limits, open_group
from modulus.host.process.cgroup import Hierarchy, find_hierarchies

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / {base}/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / {base}/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / {base}/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / {base}/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "31 23 0:28 / {base} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        ("", "", {}),
        ("0::/\n", V2, {"": Hierarchy(2, Path("/c"), Path("/c"))}),
        ("0::/a.slice/b\n", V2, {"": Hierarchy(2, Path("/c"), Path("/c/a.slice/b"))}),
        (
            "4:memory:/x\n2:cpu,cpuacct:/\n0::/y\n",
            V1,
            {
                "memory": Hierarchy(1, Path("/c/memory"), Path("/c/memory/x")),
                "cpu": Hierarchy(1, Path("/c/cpu,cpuacct"), Path("/c/cpu,cpuacct")),
                "cpuacct": Hierarchy(1, Path("/c/cpu,cpuacct"), Path("/c/cpu,cpuacct")),
                "": Hierarchy(2, Path("/c/unified"), Path("/c/unified/y")),
            },
        ),
        # A container that is shown its own part under the host's name for it, or another's.
        (
            "0::/docker/abc/d\n",
            V2.replace(" / ", " /docker/abc ", 1),
            {"": Hierarchy(2, Path("/c"), Path("/c/d"))},
        ),
        ("0::/other\n", V2.replace(" / ", " /docker/abc ", 1), {}),
    ],
)
def test_find_hierarchies(cgroup: str, mountinfo: str, expected: dict[str, Hierarchy]) -> None:
    assert find_hierarchies(cgroup, mountinfo.format(base="/c")) == expected


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """However nicely the tests are run."""
    monkeypatch.setattr(os, "getpriority", lambda *_: 0)


class Tree:
    """A fake ``/proc`` and cgroup file system."""

    def __init__(self, base: Path, cgroup: str, mountinfo: str, *folders: str) -> None:
        self.base = base / "cgroup"
        self.proc = base / "proc"
        for folder in folders:
            (self.base / folder).mkdir(parents=True)
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/cgroup").write_text(cgroup)
        (self.proc / "self/mountinfo").write_text(mountinfo.format(base=self.base))

    def files(self, pattern: str) -> dict[str, str]:
        """What was written, by path below the only folder that ``pattern`` matches."""
        (folder,) = self.base.glob(pattern)
        return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_version_1(tmp_path: Path) -> None:
    cgroup = "4:memory:/x\n2:cpu,cpuacct:/\n0::/y\n"
    tree = Tree(tmp_path, cgroup, V1, "memory/x", "cpu,cpuacct", "unified/y")
    open_group(Limits(1 << 20, 1.5), proc=tree.proc)
    assert tree.files("memory/x/modulus-payload-*") == {"memory.limit_in_bytes": "1048576"}
    assert tree.files("cpu,cpuacct/modulus-payload-*") == {
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
    }


def test_version_2(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/own\n", V2, "own")
    control = tree.base / "own/cgroup.subtree_control"
    control.write_text("cpu pids")
    group = open_group(Limits(1 << 20, 2), proc=tree.proc)
    assert control.read_text() == "+memory"
    assert tree.files("own/modulus-payload-*") == {
        "memory.max": "1048576",
        "cpu.max": "200000 100000",
    }
    assert group.path.startswith("/modulus-payload-")
    (folder,) = tree.base.glob("own/modulus-payload-*")
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert group.oom_kills == 2
    group.join()
    assert (folder / "cgroup.procs").read_text() == "0"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "folder", "written"),
    [
        ("4:memory:/\n2:cpu,cpuacct:/\n", V1, "cpu,cpuacct", {"cpu.shares": "2"}),
        ("0::/\n", V2, ".", {"memory.max": "1", "cpu.weight": "1"}),
    ],
    ids=["1", "2"],
)
def test_who_is_in_no_hurry_weighs_least(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cgroup: str,
    mountinfo: str,
    folder: str,
    written: dict[str, str],
) -> None:
    """Niceness counts within a group; a runtime's is at the root, beside all others."""
    monkeypatch.setattr(os, "getpriority", lambda *_: 19)
    tree = Tree(tmp_path, cgroup, mountinfo, "memory", "cpu,cpuacct")
    control = tree.base / "cgroup.subtree_control"
    control.write_text("memory")
    open_group(Limits(memory=1), at_root=True, proc=tree.proc)
    assert tree.files(f"{folder}/modulus-payload-*") == written
    assert control.read_text() == ("+cpu" if mountinfo == V2 else "memory")


def test_a_weight_that_cannot_be_had_is_no_reason_for_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_text

    def write(path: Path, text: str) -> int:
        if path.name == "cpu.weight":
            raise PermissionError(13, "Permission denied")
        return written(path, text)

    monkeypatch.setattr(os, "getpriority", lambda *_: 19)
    tree = Tree(tmp_path, "0::/own\n", V2, "own")
    (tree.base / "own/cgroup.subtree_control").write_text("memory")
    monkeypatch.setattr(Path, "write_text", write)
    open_group(Limits(memory=1), proc=tree.proc)
    assert tree.files("own/modulus-payload-*") == {"memory.max": "1"}


def test_at_root_for_a_runtime(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/own\n", V2, "own")
    (tree.base / "cgroup.subtree_control").write_text("memory cpu")
    group = open_group(Limits(memory=1 << 20), at_root=True, proc=tree.proc)
    assert (tree.base / group.path.lstrip("/") / "memory.max").exists()


@pytest.mark.parametrize("wanted", [Limits(memory=1), Limits(cpus=1)])
def test_no_controller_is_an_error_that_leaves_nothing(tmp_path: Path, wanted: Limits) -> None:
    tree = Tree(tmp_path, "4:freezer:/\n", V1.replace("memory", "freezer"), "freezer")
    (tree.proc / "self/mountinfo").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no \w+ controller"):
        open_group(wanted, proc=tree.proc)
    assert list(tree.base.rglob("modulus-*")) == []


def test_only_groups_of_dead_owners_are_swept(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/\n", V2, "modulus-payload-1-stale", "modulus-wait.service")
    held = tree.base / "modulus-payload-2-held"
    held.mkdir()
    handle = limits.hold(held)
    (tree.base / "cgroup.subtree_control").write_text("memory cpu")
    open_group(Limits(memory=1), proc=tree.proc)
    assert {path.name for path in tree.base.glob("modulus-*")} > {
        held.name,
        "modulus-wait.service",
    }
    assert not (tree.base / "modulus-payload-1-stale").exists()
    os.close(handle)


def test_hold_is_exclusive(tmp_path: Path) -> None:
    handle = limits.hold(tmp_path)
    with pytest.raises(BlockingIOError):
        limits.hold(tmp_path)
    os.close(handle)
    os.close(limits.hold(tmp_path))
