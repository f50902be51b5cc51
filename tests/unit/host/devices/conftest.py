"""A node below a fake root whose driver has every device node there can be."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.devices.wanted import NodeRule
from modulus.host.config.load import load_profile
from modulus.host.devices.apply import NodesResult, provide_nodes, remove_nodes
from modulus.host.report.reporter import PlainReporter
from tests.support.headertrees import write

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
