"""The kernel's messages about devices: their text, and the queue they come in."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.gpu.uevent import parse_uevent, pci_device
from modulus.core.pci import PciDevice
from modulus.host.watch.uevents import Uevents


def message(action: str = "add", **fields: str) -> bytes:
    """As the kernel sends it."""
    path = "/devices/pci0000:00/0000:00:05.0"
    lines = {"ACTION": action, "DEVPATH": path, "SUBSYSTEM": "pci", **fields, "SEQNUM": "4242"}
    texts = (f"{action}@{path}", *(f"{name}={value}" for name, value in lines.items()))
    return b"".join(text.encode() + b"\0" for text in texts)


GPU = {"PCI_CLASS": "30200", "PCI_ID": "10DE:20B0", "PCI_SLOT_NAME": "0000:00:05.0"}


def test_a_device_that_comes() -> None:
    event = parse_uevent(message(**GPU, PCI_SUBSYS_ID="0000:0000"))
    assert event is not None
    assert (event.action, event.subsystem) == ("add", "pci")
    assert pci_device(event) == PciDevice("0000:00:05.0", 0x10DE, 0x20B0, 0x030200)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"add",
        b"add@/devices/x\0",
        b"libudev\0\xfe\xed\xca\xfe\x28\0\0\0",
        b"add@devices/x\0ACTION=add\0",
        b"add@/devices/x\0ACTION=remove\0",
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    assert parse_uevent(data) is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {**GPU, "SUBSYSTEM": "net"},
        {**GPU, "PCI_ID": "10DE"},
        {**GPU, "PCI_ID": "10DE:none"},
        {**GPU, "PCI_CLASS": ""},
    ],
)
def test_what_is_no_pci_device(fields: dict[str, str]) -> None:
    event = parse_uevent(message(**fields))
    assert event is not None
    assert pci_device(event) is None


@given(st.binary())
def test_nothing_that_is_sent_does_harm(data: bytes) -> None:
    for event in (
        parse_uevent(data),
        parse_uevent(b"add@/x\0ACTION=add\0SUBSYSTEM=pci\0" + data),
    ):
        if event is not None:
            pci_device(event)


@pytest.fixture
def kernel() -> Iterator[tuple[socket.socket, Uevents]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    uevents = Uevents(ours)
    yield theirs, uevents
    uevents.close()
    theirs.close()


def test_all_that_is_queued_is_taken(kernel: tuple[socket.socket, Uevents]) -> None:
    sender, uevents = kernel
    assert list(uevents.take()) == []
    for action in ("add", "bind"):
        sender.send(message(action))
    sender.send(b"libudev\0")
    assert [event and event.action for event in uevents.take()] == ["add", "bind"]
    assert list(uevents.take()) == []


def test_of_very_many_a_part_is_taken(
    kernel: tuple[socket.socket, Uevents], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, uevents = kernel
    monkeypatch.setattr("modulus.host.watch.uevents._MOST", 3)
    for _ in range(4):
        sender.send(message("add"))
    assert [len(list(uevents.take())) for _ in range(3)] == [3, 1, 0]


def test_the_real_kernel_lets_us_listen() -> None:
    uevents = Uevents()
    try:
        assert uevents.fileno() >= 0
        list(uevents.take())
    finally:
        uevents.close()


def test_only_the_kernel_is_believed() -> None:
    """A message from another process, which reaches the socket."""
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as ours,
        socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as other,
    ):
        ours.bind((0, 0))
        try:
            other.sendto(message(**GPU), ours.getsockname())
        except PermissionError:
            pytest.skip("this needs CAP_NET_ADMIN")
        assert ours.recv(4096, socket.MSG_PEEK) == message(**GPU)
        assert list(Uevents(ours).take()) == []
        with pytest.raises(BlockingIOError):
            ours.recv(4096)
