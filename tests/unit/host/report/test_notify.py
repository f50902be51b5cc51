"""What systemd is told, read from the other end of a real socket."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.host.report import notify
from modulus.host.report.notify import Notifier, make_notifier, watchdog_seconds


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, socket.socket]]:
    """What stands in NOTIFY_SOCKET, and the socket behind it."""
    name = f"@modulus-test-{secrets.token_hex(8)}"
    if request.param == "path":
        name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(name.replace("@", "\0", 1))
        server.setblocking(False)
        yield name, server


def test_one_message_says_it_all(manager: tuple[str, socket.socket]) -> None:
    name, server = manager
    assert make_notifier({"NOTIFY_SOCKET": name}).send(
        ready=True, status="ready: it\nworks, ünd how", watchdog=True, stopping=True, extend=180
    )
    assert server.recv(4096).decode().split("\n") == [
        "READY=1",
        "STOPPING=1",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=180000000",
        "STATUS=ready: it works, ünd how",
    ]


def test_only_what_is_given_is_said(manager: tuple[str, socket.socket]) -> None:
    name, server = manager
    notifier = Notifier(name)
    assert notifier.send(status="")
    assert server.recv(4096) == b"STATUS="
    assert not notifier.send()
    with pytest.raises(BlockingIOError):
        server.recv(4096)


def test_a_busy_manager_is_waited_for_at_rest(
    manager: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = manager
    monkeypatch.setattr(notify, "_SEND_SECONDS", 0.5)
    notifier = Notifier(name)
    while notifier.send(status="full at last"):
        pass
    before = time.process_time()
    assert not notifier.send(status="lost")
    assert time.process_time() - before < 0.1


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/no/such"}])
def test_nobody_listens(environ: dict[str, str]) -> None:
    assert not make_notifier(environ).send(ready=True)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "120000000"}, 60),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(os.getpid())}, 60),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ) == seconds
