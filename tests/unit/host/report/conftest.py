"""What reports are tried with: a clock that is told, a real terminal, a fake journald."""

from __future__ import annotations

import fcntl
import os
import pty
import socket
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A real terminal: what is written to ``stream`` can be read back, and its size set."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(
            slave, "w", encoding=encoding, errors="backslashreplace"
        )

    def resize(self, columns: int) -> None:
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def read(self) -> str:
        """All that was written since the last call: up to a mark, for it arrives later."""
        mark = "\0"
        self.stream.write(mark)
        self.stream.flush()
        data = b""
        while not data.endswith(mark.encode()):
            data += os.read(self._master, 65536)
        return data.decode(self.stream.encoding).removesuffix(mark)

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Terminal()
    made.resize(80)
    yield made
    made.close()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """What listens where journald would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.setblocking(False)
        yield server


def entry(server: socket.socket) -> dict[str, str]:
    """The next entry; all of these have one line a field."""
    lines = server.recv(65536).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)
