# ruff: noqa: E501
"""Device nodes that cannot be made or removed: what is foreign, what may not be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from modulus.errors import RefusedError
from modulus.host.devices.apply import check_usable
from tests.support.headertrees import link, write
from tests.support.mount import tmpfs
from tests.unit.host.devices.conftest import Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")


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
