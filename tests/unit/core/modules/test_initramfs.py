"""Which initramfs would load a rival, and what is recorded of it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.modules.initramfs import (
    Image,
    InitramfsRecord,
    forced_modules,
    parse_record,
    unprotected,
)

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


@pytest.mark.parametrize(
    ("listing", "held"),
    [
        (DEBIAN, ("rival",)),
        (DRACUT, ("other_rival",)),
        (DEBIAN + DRACUT, RIVALS),
        (DEBIAN + f"etc/modprobe.d/{CONFIG}\n", ()),
        (DRACUT + f"-rw-r--r-- 1 root root 1 Jan 1 1970 usr/lib/modprobe.d/{CONFIG}\n", ()),
        (DEBIAN + f"etc/other.d/{CONFIG}\n", ("rival",)),
        (DEBIAN.replace(RELEASE, "6.1.0-9-amd64"), ()),
        (DEBIAN.replace("rival.ko", "rival.ko.zst"), ("rival",)),
        (DEBIAN.replace("rival.ko", "rival_helper.ko"), ()),
        ("", ()),
    ],
)
def test_what_is_not_protected(listing: str, held: tuple[str, ...]) -> None:
    assert unprotected(listing.splitlines(), RELEASE, RIVALS, CONFIG) == held


@pytest.mark.parametrize(
    ("text", "forced"),
    [
        ("", ()),
        ("# rival\n\nraid1\n", ()),
        ("other-rival\n  rival modeset=1\n", RIVALS),
    ],
)
def test_what_is_forced(text: str, forced: tuple[str, ...]) -> None:
    assert forced_modules(text, RIVALS) == forced


RECORD = InitramfsRecord(Image("/boot/x", 1, 2), RIVALS, CONFIG, ("rival",), "failed")


def test_a_record_is_read_as_it_was_written() -> None:
    assert parse_record(json.loads(json.dumps(RECORD.value()))) == RECORD


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(st.sampled_from(["image", "rivals", "config", "held", "problem"]), JSON)
def test_a_damaged_record_is_none(key: str, value: object) -> None:
    changed = RECORD.value() | {key: value}
    with contextlib.suppress(ValueError):
        assert json.dumps(parse_record(changed).value()) == json.dumps(changed)
    with pytest.raises(ValueError):
        parse_record(value)
