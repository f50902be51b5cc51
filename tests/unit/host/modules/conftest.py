"""Fixtures that files of this folder share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.fakemodprobe import DEPMOD, MODPROBE, RMMOD, Node, write


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node(tmp_path / "root", tmp_path / "tools")
    write(
        node.kernel / "modules.dep",
        "kernel/drm.ko.xz: kernel/base.ko\nkernel/base.ko:\n"
        "kernel/ipmi_si.ko: kernel/ipmi.ko\nkernel/ipmi.ko:\nkernel/other.ko:\n",
    )
    write(node.kernel / "modules.builtin", "kernel/drivers/i2c/i2c-core.ko\n")
    for name in ("drm.ko.xz", "base.ko", "ipmi_si.ko", "ipmi.ko", "other.ko"):
        write(node.kernel / "kernel" / name)
    write(node.root / "dev/kmsg", "3,1,1,-;NVRM: No GPU, long ago\n")
    for name, script in (("modprobe", MODPROBE), ("depmod", DEPMOD), ("rmmod", RMMOD)):
        write(node.tools / name, script.replace("@ROOT@", str(node.root))).chmod(0o755)
    monkeypatch.setenv("PATH", f"{node.tools}:{os.environ['PATH']}")
    return node
