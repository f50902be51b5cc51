from __future__ import annotations

import pytest

from modulus.core.pci import IdRange, PciDevice, PciMatch


def device(device_class: int) -> PciDevice:
    return PciDevice("0000:01:00.0", 0x10DE, 0x1EB8, device_class)


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [(0x31A1, 0x31A1, 0x31A1), ("0x31a1", 0x31A1, 0x31A1), ("0x2340-0x237F", 0x2340, 0x237F)],
)
def test_id_ranges(value: object, first: int, last: int) -> None:
    assert IdRange.parse(value) == IdRange(first, last)


@pytest.mark.parametrize(
    "value", ["", "0x1", "0x2340-", "0x237f-0x2340", "2340", True, None, 0x10000, -1, [], 1.5]
)
def test_what_is_no_id_range(value: object) -> None:
    with pytest.raises(ValueError, match="must be a device id"):
        IdRange.parse(value)


def test_a_class_is_matched_without_its_programming_interface() -> None:
    assert PciMatch(0x10DE, 0x0302).matches(device(0x030201))
    assert not PciMatch(0x10DE, 0x0302).matches(device(0x030001))
