from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.devices.proc_devices import MOST_MAJOR, CharDevices, parse_chardevs

TEXT = """\
Character devices:
  1 mem
  4 /dev/vc/0
  4 tty
 10 misc
195 vendor
195 vendorctl
234 vendor-caps-channels
243 vendor-uvm-tools
244 vendor-uvm
511 with blank

Block devices:
  8 sd
244 vendor
259 blkext
"""


@pytest.mark.parametrize(
    ("names", "major"),
    [
        (("mem",), 1),
        (("tty",), 4),
        (("vendor",), 195),
        (("vendor-uvm",), 244),
        (("vendor-caps",), None),
        (("uvm",), None),
        (("with blank",), 511),
        (("sd",), None),
        (("vendor-new", "vendor"), 195),
        (("vendor-uvm", "vendor"), 244),
        ((), None),
    ],
)
def test_a_name_is_meant_exactly(names: tuple[str, ...], major: int | None) -> None:
    assert parse_chardevs(TEXT).major(names) == major


def test_only_character_devices_take_a_major() -> None:
    devices = parse_chardevs(TEXT)
    assert devices.is_taken(243)
    assert not devices.is_taken(259)


@pytest.mark.parametrize(
    "text",
    ["", "Block devices:\n  8 sd\n", "  1 mem\n", "Character devices:\n\n  1 mem\n",
     "Character devices:\nmem\n -1 mem\n 1x mem\n 512 mem\n 1\n 1 \n"],
)  # fmt: skip
def test_nothing_is_there(text: str) -> None:
    assert parse_chardevs(text) == CharDevices()


NAMES = st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.integers(0, MOST_MAJOR)), max_size=8), st.text())
def test_the_kernels_own_form_is_read_back(entries: list[tuple[str, int]], after: str) -> None:
    lines = "".join(f"{major:3d} {name}\n" for name, major in entries)
    text = f"Character devices:\n{lines}\nBlock devices:\n{after}"
    assert parse_chardevs(text).entries == tuple(entries)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    for _, major in parse_chardevs(f"Character devices:\n{text}").entries:
        assert 0 <= major <= MOST_MAJOR
