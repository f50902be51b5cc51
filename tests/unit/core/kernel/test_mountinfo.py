from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.kernel.mountinfo import mount_of, parse_mountinfo

TEXT = r"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 master:3 - proc proc rw
40 22 254:2 /data /opt rw,noexec - ext4 /dev/mapper/a\040b rw
41 22 254:3 / /opt/my\040drivers rw - xfs /dev/vdc\011 rw
42 22 254:4 / /opt\134drivers rw - xfs - rw
43 40 0:50 / /opt rw,nodev - tmpfs - rw
"""


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/", "/", "ext4"),
        ("/usr/lib", "/", "ext4"),
        ("/proc", "/proc", "proc"),
        ("/process", "/", "ext4"),
        ("/opt/my drivers/x", "/opt/my drivers", "xfs"),
        ("/opt\\drivers/x", "/opt\\drivers", "xfs"),
    ],
)
def test_the_longest_mount_point_holds_a_path(path: str, point: str, kind: str) -> None:
    mount = mount_of(path, parse_mountinfo(TEXT))
    assert mount
    assert (mount.point, mount.kind) == (point, kind)


def test_the_last_of_several_at_a_point_counts() -> None:
    mounts = parse_mountinfo(TEXT)
    last = mount_of("/opt/x", mounts)
    assert last
    assert (last.kind, last.source, sorted(last.options)) == ("tmpfs", "-", ["nodev", "rw"])
    below = mount_of("/opt/x", mounts[:-1])
    assert below
    assert (below.source, sorted(below.options)) == ("/dev/mapper/a b", ["noexec", "rw"])


def test_a_path_may_be_on_no_mount() -> None:
    assert mount_of("/x", ()) is None


def test_that_of_this_process_can_be_read() -> None:
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text())
    held = mount_of("/proc/self", mounts)
    assert held
    assert (held.point, held.kind) == ("/proc", "proc")


@pytest.mark.parametrize("line", ["x", "1 2 0:1 / / rw", "1 2 0:1 / / rw a b c d", "- - -"])
def test_a_line_of_another_form(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        parse_mountinfo(line)


@given(st.text("/0 -\n\\14ab", max_size=60))
def test_any_text_is_mounts_or_refused(text: str) -> None:
    try:
        mounts = parse_mountinfo(text)
    except ValueError:
        return
    assert all(mount.options for mount in mounts)
