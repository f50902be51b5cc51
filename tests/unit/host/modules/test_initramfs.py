"""An initramfs is read and rebuilt, by tools that stand in for the distribution's."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from modulus.core.findings import Finding
from modulus.core.modules.initramfs import (
    Image,
)
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.modules.initramfs import check_initramfs, rebuild_command
from modulus.host.process.run import find, run
from modulus.host.report.reporter import PlainReporter
from tests.support.headertrees import write

RELEASE = "6.1.0-99-amd64"
CONFIG = "modulus-driver.conf"
RIVALS = ("rival", "other_rival")
DEBIAN = f"""\
.
etc/modprobe.d
usr/lib/modules/{RELEASE}/kernel/drivers/gpu/drm/rival/rival.ko
usr/lib/modules/{RELEASE}/kernel/drivers/net/e1000.ko
"""
DRACUT = f"""\
Image: /boot/initramfs.img: 12M
drwxr-xr-x   2 root     root            0 Jan  1  1970 etc/modprobe.d
-rw-r--r--   1 root root 123456 Jan  1  1970 lib/modules/{RELEASE}/kernel/other-rival.ko.xz
lrwxrwxrwx   1 root root 7 Jan  1  1970 lib -> usr/lib/modules/{RELEASE}/rival.ko
"""


class Node:
    """A root with an initramfs that is the list of what is in it, and tools for it."""

    def __init__(self, work: Path) -> None:
        self.root = work / "root"
        self.image = self.root / f"boot/initrd.img-{RELEASE}"
        self.tools = work / "tools"
        self.calls = work / "calls"
        self.log = io.StringIO()
        self.driver = DriverPaths(self.root, "driver")
        self.tool("lsinitramfs", 'cat "$1"')
        # Tools below the root are run there; this stands for it.
        self.tool(
            "chroot",
            f'root=$1; shift; export root; PATH="{self.root}/usr/sbin:$PATH"; exec "$@"',
        )
        write(self.image, DEBIAN)

    def tool(self, name: str, script: str, folder: Path | None = None) -> None:
        text = f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{script}\n'
        write((folder or self.tools) / name, text, 0o755)

    def rebuilder(self, script: str, name: str = "update-initramfs") -> None:
        self.tool(name, script, self.root / "usr/sbin")

    def check(self, *, rebuild: bool = True) -> tuple[Finding, ...]:
        return check_initramfs(
            self.driver, RELEASE, RIVALS, PlainReporter(self.log), rebuild=rebuild
        )

    def called(self) -> list[str]:
        """The tools that ran since the last look."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node(tmp_path)
    # Not the machine's own tools.
    monkeypatch.setenv("PATH", f"{node.tools}:/usr/bin:/bin")
    return node


GOOD = (
    f'echo "etc/modprobe.d/{CONFIG}" >>"$root/boot/initrd.img-{RELEASE}"; echo Adding module x'
)


def test_an_image_with_a_rival_is_rebuilt_once(node: Node) -> None:
    node.rebuilder(GOOD)
    assert node.check() == ()
    assert node.called() == ["lsinitramfs", "chroot", "update-initramfs", "lsinitramfs"]
    before, after = node.log.getvalue().splitlines()
    assert before.startswith(
        f"load: /boot/initrd.img-{RELEASE} holds rival; rebuilding it (chroot"
    )
    assert before.endswith(f"update-initramfs -u -v -k {RELEASE})")
    assert after == (
        f"load: /boot/initrd.img-{RELEASE} is rebuilt; rival is not loaded from it any more"
    )
    assert node.check() == ()
    assert node.called() == []


def test_an_image_without_rivals_is_read_once(node: Node) -> None:
    write(node.image, f"etc/modprobe.d/{CONFIG}\n{DEBIAN}")
    assert node.check() == ()
    assert node.check() == ()
    assert node.called() == ["lsinitramfs"]
    os.utime(node.image, ns=(1, 1))
    assert node.check() == ()
    assert node.called() == ["lsinitramfs"]


def test_dracut_is_given_our_file(node: Node) -> None:
    node.image = node.image.rename(node.image.with_name(f"initramfs-{RELEASE}.img"))
    node.image.write_text(DRACUT)
    write(node.tools / "lsinitramfs").unlink()
    node.tool("lsinitrd", 'cat "$1"')
    node.rebuilder(
        'echo "$*" >$root/args; for image; do :; done; '
        f'cat $root/boot/initramfs-{RELEASE}.img >"$root$image"; '
        f'echo "- etc/modprobe.d/{CONFIG}" >>"$root$image"',
        "dracut",
    )
    assert node.check() == ()
    # It writes in place, and a boot with half an image is none.
    assert (node.root / "args").read_text().strip() == (
        f"--force --kver {RELEASE} --install /etc/modprobe.d/{CONFIG} "
        f"/boot/.initramfs-{RELEASE}.img.modulus"
    )
    assert [path.name for path in node.image.parent.iterdir()] == [node.image.name]
    assert f"modprobe.d/{CONFIG}" in node.image.read_text()


def use_dracut(node: Node, script: str) -> None:
    node.image = node.image.rename(node.image.with_name(f"initramfs-{RELEASE}.img"))
    node.rebuilder(f'for image; do :; done; image="$root$image"; {script}', "dracut")


@pytest.mark.parametrize(
    ("script", "cause"),
    [("true", "No such file"), ("echo half >$image; exit 1", "failed with status 1")],
)
def test_an_image_stays_where_no_other_is_made(node: Node, script: str, cause: str) -> None:
    use_dracut(node, script)
    finding = one(node.check())
    assert cause in finding.cause
    assert finding.fix.endswith(f"/boot/initramfs-{RELEASE}.img")
    assert node.image.read_text() == DEBIAN
    assert os.listdir(node.image.parent) == [node.image.name]


def test_a_rebuild_that_is_killed_is_not_begun_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_dracut(node, "true")
    with monkeypatch.context() as patch:
        # Nothing after it runs, as after SIGKILL.
        patch.setattr("modulus.host.modules.initramfs._rebuilt", None)
        with pytest.raises(TypeError):
            node.check()
    write(node.image.with_name(f".{node.image.name}.modulus"), "half")
    finding = one(node.check())
    assert (finding.id, "without a word" in finding.cause) == ("rival-in-initramfs", True)
    assert "dracut" not in node.called()
    assert os.listdir(node.image.parent) == [node.image.name]


def one(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    assert finding.level == "loaded"
    return finding


def test_never_is_a_finding_until_it_is_auto(node: Node) -> None:
    node.rebuilder(GOOD)
    finding = one(node.check(rebuild=False))
    assert (finding.id, finding.severity) == ("rival-in-initramfs", "warning")
    assert "initramfs: never" in finding.cause
    assert finding.fix.endswith(f"update-initramfs -u -v -k {RELEASE}")
    assert one(node.check(rebuild=False)) == finding
    assert node.called() == ["lsinitramfs"]
    assert node.check() == ()
    assert "update-initramfs" in node.called()


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("true", "it still does after it was rebuilt"),
        ("echo no room; exit 3", "failed with status 3"),
        ("echo no room; exit 3", "its last line: no room"),
    ],
)
def test_a_rebuild_that_does_not_help_is_not_tried_again(
    node: Node, script: str, cause: str
) -> None:
    node.rebuilder(script)
    finding = one(node.check())
    assert (finding.severity, cause in finding.cause) == ("warning", True)
    assert "update-initramfs" in node.called()
    assert one(node.check()) == finding
    assert node.called() == []
    node.image.write_text(f"{DEBIAN}\n")
    node.check()
    assert "update-initramfs" in node.called()


def test_a_system_without_a_tool_to_rebuild(node: Node) -> None:
    finding = one(node.check())
    assert "neither update-initramfs nor dracut" in finding.cause
    assert finding.severity == "warning"


@pytest.mark.parametrize("script", [None, "exit 1"])
def test_what_cannot_be_listed_is_said(node: Node, script: str | None) -> None:
    (node.tools / "lsinitramfs").unlink()
    if script:
        node.tool("lsinitrd", script)
    elif find("lsinitrd") or find("lsinitramfs"):
        pytest.skip("this machine has the tools")
    finding = one(node.check())
    assert (finding.id, finding.severity) == ("initramfs-unknown", "info")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_read_only_boot_is_a_finding(node: Node) -> None:
    node.rebuilder(GOOD)
    boot = node.root / "boot"
    run(["mount", "--bind", boot, boot])
    try:
        run(["mount", "-o", "remount,bind,ro", boot])
        finding = one(node.check())
    finally:
        run(["umount", boot])
    assert finding.cause.endswith("boot is read-only")
    assert "update-initramfs" not in node.called()


@pytest.mark.parametrize("path", [f"initramfs-{RELEASE}.img", f"{RELEASE}/initrd"])
def test_where_an_image_may_be(node: Node, path: str) -> None:
    node.image.unlink()
    assert node.check() == ()
    assert node.called() == []
    write(node.root / "boot" / path, DEBIAN)
    assert one(node.check(rebuild=False)).message.startswith(f"/boot/{path} holds rival")


def test_what_is_loaded_by_name_is_a_finding(node: Node) -> None:
    write(node.root / "etc/initramfs-tools/modules", "rival\n")
    node.rebuilder(GOOD)
    finding = one(node.check())
    assert finding.id == "rival-forced"
    assert "/etc/initramfs-tools/modules" in finding.fix


def test_a_record_that_cannot_be_kept_stops_nothing(node: Node) -> None:
    node.rebuilder(GOOD)
    write(node.root / "var/lib/modulus", "a file")
    assert node.check() == ()


def test_the_running_system_needs_no_chroot(node: Node) -> None:
    image = Image(f"/boot/initrd.img-{RELEASE}", 1, 1)
    assert rebuild_command(node.root, image, RELEASE, CONFIG) == ()
    node.rebuilder("true")
    command = rebuild_command(node.root, image, RELEASE, CONFIG)
    assert command[:3] == ("chroot", str(node.root), "update-initramfs")
    node.tool("update-initramfs", "true")
    assert rebuild_command(Path("/"), image, RELEASE, CONFIG) == command[2:]
