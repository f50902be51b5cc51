# ruff: noqa: E501
"""Real device nodes below a fake root, from /proc as the real driver fills it."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.devices.wanted import NodeRule
from modulus.errors import RefusedError
from modulus.host.config.load import load_profile
from modulus.host.devices.apply import NodesResult, check_usable, provide_nodes, remove_nodes
from modulus.host.devices.facts import read_facts
from modulus.host.report.reporter import PlainReporter
from tests.support.headertrees import link, write
from tests.support.mount import tmpfs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")

DEVICES = """\
Character devices:
  1 mem
195 nvidia
195 nvidiactl
195 nvidia-modeset
234 nvidia-caps-imex-channels
235 nvidia-nvswitch
236 nvidia-nvlink
237 nvidia-caps
510 nvidia-uvm
510 nvidia-uvm-more

Block devices:
  8 sd
"""
PARAMS = """\
ResmanDebugLevel: 4294967295
ModifyDeviceFiles: {modify}
DeviceFileUID: {uid}
DeviceFileGID: {gid}
DeviceFileMode: {mode}
CreateImexChannel0: {channel}
RegistryDwords: ""
"""
CONTROL = {
    "nvidiactl": "195:255 0666",
    "nvidia-modeset": "195:254 0666",
    "nvidia-uvm": "510:0 0666",
    "nvidia-uvm-tools": "510:1 0666",
    "nvidia-nvlink": "236:0 0666",
    "nvidia-nvswitchctl": "235:255 0666",
    "nvidia-caps/nvidia-cap1": "237:1 0400",
    "nvidia-caps/nvidia-cap2": "237:2 0444",
}
ALL = CONTROL | {"nvidia0": "195:0 0666", "nvidia1": "195:1 0666"}


class Node:
    """A node with two GPUs and all that the driver can have."""

    def __init__(self, root: Path, rules: tuple[NodeRule, ...]) -> None:
        self.root, self.rules, self.dev = root, rules, root / "dev"
        self.log = io.StringIO()
        self.proc("devices", DEVICES)
        self.params()
        self.gpu("0000:00:05.0", 1)
        self.gpu("0000:00:06.0", 0)
        for module in ("nvidia", "nvidia_modeset", "nvidia_uvm"):
            write(root / f"sys/module/{module}/initstate", "live\n")
        for driver in ("nvlink", "nvswitch"):
            self.proc(f"driver/nvidia-{driver}/permissions", "DeviceFileMode: 438\n")
        (root / "proc/driver/nvidia-nvswitch/devices").mkdir()
        self.cap("mig/config", 1, 256)
        self.cap("mig/monitor", 2, 292)
        self.dev.mkdir()
        self.dev.chmod(0o755)

    def proc(self, path: str, text: str) -> None:
        write(self.root / "proc" / path, text)

    def params(
        self, modify: int = 1, uid: int = 0, gid: int = 0, mode: int = 438, channel: int = 0
    ) -> None:
        text = PARAMS.format(modify=modify, uid=uid, gid=gid, mode=mode, channel=channel)
        self.proc("driver/nvidia/params", text)

    def gpu(self, address: str, minor: int) -> None:
        text = f"Model: \t\t GPU\nBus Location: \t {address}\nDevice Minor: \t {minor}\n"
        self.proc(f"driver/nvidia/gpus/{address}/information", text)

    def cap(self, path: str, minor: int, mode: int, modify: int = 1) -> None:
        text = f"DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: {modify}\n"
        self.proc(f"driver/nvidia/capabilities/{path}", text)

    def unload(self) -> None:
        shutil.rmtree(self.root / "proc")
        shutil.rmtree(self.root / "sys")
        self.proc("devices", "Character devices:\n  1 mem\n510 other\n")

    def mknod(self, name: str, major: int, minor: int, mode: int = 0o666) -> Path:
        path = self.dev / name
        path.parent.mkdir(exist_ok=True)
        os.mknod(path, stat.S_IFCHR, os.makedev(major, minor))
        path.chmod(mode)
        return path

    def provide(self) -> NodesResult:
        result = provide_nodes(self.root, self.rules, PlainReporter(self.log))
        # What is done is right the next time.
        again = provide_nodes(self.root, self.rules, PlainReporter(io.StringIO()))
        assert not again.changed
        assert again.findings == result.findings
        return result

    def remove(self) -> tuple[str, ...]:
        return remove_nodes(self.root, self.rules)

    def nodes(self) -> dict[str, str]:
        """Every character device by path, with number, mode and, if not root's, owner."""
        found = {}
        for path in sorted(self.dev.rglob("*")):
            status = path.lstat()
            if stat.S_ISCHR(status.st_mode):
                number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
                text = f"{number} {stat.S_IMODE(status.st_mode):04o}"
                if status.st_uid or status.st_gid:
                    text += f" {status.st_uid}:{status.st_gid}"
                found[str(path.relative_to(self.dev))] = text
        return found

    def links(self) -> dict[str, str]:
        return {path.name: os.readlink(path) for path in (self.dev / "char").glob("*:*")}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    # What is made must not depend on it.
    before = os.umask(0o077)
    yield Node(tmp_path, load_profile(tmp_path, "nvidia").nodes)
    os.umask(before)


def test_all_nodes_of_a_driver(node: Node) -> None:
    result = node.provide()
    assert node.nodes() == ALL
    assert len(result.wanted) == len(ALL)
    assert result.changed
    assert result.findings == ()
    assert stat.S_IMODE((node.dev / "nvidia-caps").stat().st_mode) == 0o755
    assert stat.S_IMODE((node.dev / "char").stat().st_mode) == 0o755
    assert not (node.dev / "nvidia-caps-imex-channels").exists()
    assert node.log.getvalue() == "nodes: 10 device nodes, 10 of them new\n"


def test_every_node_has_its_link(node: Node) -> None:
    node.provide()
    assert node.links() == {text.split()[0]: f"../{name}" for name, text in ALL.items()}
    for name in node.links():
        status = (node.dev / "char" / name).stat()
        assert f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" == name


def test_a_driver_without_nodes(tmp_path: Path) -> None:
    rules = load_profile(tmp_path, "v4l2loopback").nodes
    assert provide_nodes(tmp_path, rules, PlainReporter(io.StringIO())) == NodesResult()
    assert remove_nodes(tmp_path, rules) == ()
    assert list(tmp_path.iterdir()) == []


def test_what_is_right_is_not_touched(node: Node) -> None:
    node.provide()
    before = {path: path.lstat() for path in node.dev.rglob("*")}
    node.provide()
    assert {path: path.lstat() for path in node.dev.rglob("*")} == before


def test_an_older_driver_and_what_is_not_loaded(node: Node) -> None:
    node.proc("devices", "Character devices:\n195 nvidia-frontend\n243 nvidia-uvm-tools\n")
    (node.root / "sys/module/nvidia_modeset/initstate").write_text("coming\n")
    node.provide()
    assert sorted(node.nodes()) == ["nvidia0", "nvidia1", "nvidiactl"]


def test_the_default_major_is_for_a_module_that_is_loaded(node: Node) -> None:
    node.proc("devices", "Character devices:\n  1 mem\n")
    (node.root / "sys/module/nvidia_modeset/initstate").unlink()
    node.provide()
    assert sorted(node.nodes()) == ["nvidia0", "nvidia1", "nvidiactl"]
    (node.root / "sys/module/nvidia/initstate").unlink()
    assert provide_nodes(node.root, node.rules, PlainReporter(io.StringIO())).wanted == ()


def test_owner_and_mode_are_the_drivers(node: Node) -> None:
    node.params(uid=7, gid=44, mode=0o660)
    node.provide()
    own = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-modeset")
    assert node.nodes() == {
        name: f"{text.split()[0]} 0660 7:44" if name in own else text
        for name, text in ALL.items()
    }


def test_nodes_of_the_gpus_are_left_alone_if_the_driver_says_so(node: Node) -> None:
    node.params(modify=0)
    node.cap("mig/config", 1, 256, modify=0)
    right = node.mknod("nvidia0", 195, 0)
    wrong = node.mknod("nvidia1", 195, 1, 0o600)
    node.mknod("nvidia7", 195, 7)
    before = (right.lstat(), wrong.lstat())
    result = node.provide()
    assert (right.lstat(), wrong.lstat()) == before
    assert sorted(node.nodes()) == sorted(
        {"nvidia7", *ALL} - {"nvidiactl", "nvidia-modeset", "nvidia-caps/nvidia-cap1"}
    )
    found = {finding.message.split()[0]: finding.id for finding in result.findings}
    assert found == dict.fromkeys(
        ("/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia-caps/nvidia-cap1"),
        "unmanaged-node",
    )  # fmt: skip
    assert node.links()["195:0"] == "../nvidia0"
    assert "195:255" not in node.links()


def test_what_is_stale_is_replaced(node: Node) -> None:
    node.mknod("nvidia-uvm", 243, 0)
    node.mknod("nvidia0", 195, 0, 0o600)
    os.chown(node.mknod("nvidiactl", 195, 255), 5, 6)
    link(node.dev / "char/243:0", "../nvidia-uvm")
    link(node.dev / "char/510:0", "../gone")
    link(node.dev / "char/1:3", "../null")
    node.provide()
    assert node.nodes() == ALL
    assert node.links() == {text.split()[0]: f"../{name}" for name, text in ALL.items()} | {
        "1:3": "../null"
    }
    lines = node.log.getvalue().splitlines()
    assert "nodes: /dev/nvidia-uvm replaced: major 243 instead of 510" in lines
    assert "nodes: /dev/nvidia0 replaced: mode 0600 instead of 0666" in lines
    assert "nodes: /dev/nvidiactl replaced: owner 5:6 instead of 0:0" in lines
    assert lines[-1] == "nodes: 10 device nodes, 7 of them new"


def test_one_that_is_replaced_is_never_missing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = node.mknod("nvidia-uvm", 243, 0)
    real = os.mknod

    def watched(scratch: Path, mode: int, device: int) -> None:
        real(scratch, mode, device)
        assert stat.S_IMODE(scratch.lstat().st_mode) == 0
        if device == os.makedev(510, 0):
            assert os.major(path.lstat().st_rdev) == 243

    monkeypatch.setattr(os, "mknod", watched)
    node.provide()
    assert node.nodes() == ALL


def test_what_a_killed_run_left_is_in_nobodys_way(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            node.provide()
    assert node.nodes() == {}
    for run in (node.provide, node.remove):
        # What was killed for good cleans up no more.
        node.mknod(".nvidia0.modulus", 1, 3, 0)
        link(node.dev / "char/.195:0.modulus", "../nvidia0")
        (node.dev / "char/.1:3.modulus").unlink(missing_ok=True)
        link(node.dev / "char/.1:3.modulus", "../null")
        run()
        assert not (node.dev / ".nvidia0.modulus").exists()
        assert not os.path.lexists(node.dev / "char/.195:0.modulus")
        assert os.path.lexists(node.dev / "char/.1:3.modulus")
        assert node.nodes() == (ALL if run == node.provide else {})


def test_what_is_foreign_stays(node: Node) -> None:
    write(node.dev / "nvidia0", "mine")
    link(node.dev / "nvidia1", "null")
    (node.dev / "nvidia-uvm").mkdir()
    link(node.dev / "nvidia-caps", "elsewhere")
    (node.dev / "elsewhere").mkdir()
    write(node.dev / "char/236:0", "mine")
    result = node.provide()
    assert sorted(node.nodes()) == [
        "nvidia-modeset", "nvidia-nvlink", "nvidia-nvswitchctl", "nvidia-uvm-tools", "nvidiactl",
    ]  # fmt: skip
    assert {(finding.id, finding.severity, finding.message) for finding in result.findings} == {
        ("foreign-node", "error", "/dev/nvidia0 cannot be made: a regular file is there"),
        ("foreign-node", "error", "/dev/nvidia1 cannot be made: a symbolic link is there"),
        ("foreign-node", "error", "/dev/nvidia-uvm cannot be made: a directory is there"),
        *(
            ("foreign-node", "error", f"{path} cannot be made: /dev/nvidia-caps is a symbolic link")
            for path in ("/dev/nvidia-caps/nvidia-cap1", "/dev/nvidia-caps/nvidia-cap2")
        ),
        ("foreign-link", "warning", "/dev/char/236:0 cannot be made: what is there is no symbolic link"),
    }  # fmt: skip
    assert "move it" in next(
        finding.fix for finding in result.findings if "/dev/nvidia0 " in finding.message
    )
    left = {"/dev/nvidiactl", "/dev/char/195:255"}
    assert left <= set(node.remove())
    assert (node.dev / "nvidia0").read_text() == "mine"
    assert sorted(path.name for path in node.dev.iterdir()) == [
        "char", "elsewhere", "nvidia-caps", "nvidia-uvm", "nvidia0", "nvidia1",
    ]  # fmt: skip
    assert (node.dev / "char/236:0").read_text() == "mine"


def test_a_gpu_and_a_capability_that_are_gone(node: Node) -> None:
    node.cap("gpu0/mig/gi0/access", 3, 0o444)
    node.provide()
    assert node.nodes()["nvidia-caps/nvidia-cap3"] == "237:3 0444"
    shutil.rmtree(node.root / "proc/driver/nvidia/capabilities/gpu0")
    shutil.rmtree(node.root / "proc/driver/nvidia/gpus/0000:00:05.0")
    node.provide()
    expected = {name: text for name, text in ALL.items() if name != "nvidia1"}
    assert node.nodes() == expected
    assert len(node.links()) == len(expected)
    assert "/dev/nvidia1 removed: no device has 195:1\n" in node.log.getvalue()


def test_a_proc_that_cannot_be_seen_removes_nothing(node: Node) -> None:
    node.provide()
    shutil.rmtree(node.root / "proc/driver/nvidia")
    node.provide()
    assert node.nodes() == ALL


def test_switches_and_channels(node: Node) -> None:
    for address in ("0000:c1:00.0", "0000:c2:00.0"):
        node.proc(f"driver/nvidia-nvswitch/devices/{address}/information", "BIOS Version: 1\n")
    node.params(channel=1)
    # One that an administrator made before the driver was loaded again.
    node.mknod("nvidia-caps-imex-channels/channel5", 233, 5, 0o600)
    node.provide()
    extra = {
        "nvidia-nvswitch0": "235:0 0666",
        "nvidia-nvswitch1": "235:1 0666",
        "nvidia-caps-imex-channels/channel0": "234:0 0666",
        "nvidia-caps-imex-channels/channel5": "234:5 0600",
    }
    assert node.nodes() == ALL | extra
    node.params(channel=0)
    node.provide()
    assert node.nodes() == ALL | extra
    node.remove()
    assert list(node.nodes()) == ["nvidia-caps-imex-channels/channel5"]


@pytest.mark.parametrize("unloaded", [False, True])
def test_removal_takes_all_that_was_made(node: Node, unloaded: bool) -> None:
    node.mknod("null", 1, 3)
    link(node.dev / "char/1:3", "../null")
    before = sorted(node.dev.rglob("*"))
    node.provide()
    if unloaded:
        node.unload()
    removed = node.remove()
    assert len(removed) == 2 * len(ALL) + 1
    assert removed[-1] == "/dev/nvidia-caps"
    assert sorted(node.dev.rglob("*")) == before
    assert node.remove() == ()


def test_removal_knows_what_the_driver_said_before(node: Node) -> None:
    node.provide()
    node.params(modify=0)
    before = read_facts(node.root, node.rules)
    node.unload()
    remove_nodes(node.root, node.rules, before)
    assert sorted(node.nodes()) == ["nvidia-modeset", "nvidia0", "nvidia1", "nvidiactl"]


def test_nodes_that_may_not_be_made(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without CAP_MKNOD."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "mknod", refuse)
    with pytest.raises(RefusedError, match="cannot change /dev/nvidiactl: ") as caught:
        node.provide()
    assert "a privileged one" in caught.value.hint
    assert list(node.dev.rglob("*")) == []


def test_nodes_that_are_there_need_no_permission(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.provide()
    monkeypatch.delattr(os, "mknod")
    node.provide()


def test_nodes_that_cannot_be_removed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    node.provide()
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(RefusedError, match="Read-only file system"):
        node.remove()


def test_a_dev_in_which_nothing_can_be_opened(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "good", "1m") as dev:
        check_usable(dev)
    with tmpfs(tmp_path / "bad", "1m,nodev") as dev, pytest.raises(RefusedError) as caught:
        check_usable(dev)
    assert "is mounted nodev" in caught.value.message


def test_a_dev_that_is_read_only(node: Node) -> None:
    node.dev.rmdir()
    with tmpfs(node.dev, "1m,ro"), pytest.raises(RefusedError, match="Read-only") as caught:
        node.provide()
    assert "mount /dev writable" in caught.value.hint


def test_an_absolute_link_is_followed_below_the_root(node: Node) -> None:
    node.dev.rename(node.root / "devices")
    link(node.dev, "/devices")
    node.dev = node.root / "devices"
    node.provide()
    assert node.nodes() == ALL
