"""Conversations in lines of JSON over a Unix socket: QEMU's monitor and its guest agent."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class ChannelError(Exception):
    """The other end is gone, silent, or refuses what it is asked."""


class Channel:
    """One end of a conversation; what comes is read by ``receive``."""

    def __init__(self, path: Path, alive: Callable[[], bool], timeout: float = 20) -> None:
        self._link = socket.socket(socket.AF_UNIX)
        self._buffer = b""
        self._alive = alive
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._link.connect(str(path))
                return
            except OSError as error:
                if not alive() or time.monotonic() > deadline:
                    raise ChannelError(f"{path}: {error}") from error
                time.sleep(0.05)

    def close(self) -> None:
        self._link.close()

    def send(self, command: str, /, *fds: int, **arguments: Any) -> None:
        """Asks for a command; file descriptors go along."""
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = {
                key.replace("_", "-"): value for key, value in arguments.items()
            }
        line = json.dumps(message).encode() + b"\n"
        try:
            if fds:
                socket.send_fds(self._link, [line], fds)
            else:
                self._link.sendall(line)
        except OSError as error:
            raise ChannelError(f"{command}: {error}") from error

    def receive(self, timeout: float) -> Any:
        """The next message; TimeoutError if none comes in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            self._link.settimeout(max(0.01, min(1, deadline - time.monotonic())))
            piece = None
            with contextlib.suppress(TimeoutError, ConnectionError):
                piece = self._link.recv(1 << 16)
            if piece:
                self._buffer += piece
            elif piece == b"" or not self._alive():
                raise ChannelError("the machine is gone")
            elif time.monotonic() > deadline:
                raise TimeoutError(f"no answer in {timeout:.0f} s")
        line, _, self._buffer = self._buffer.partition(b"\n")
        # The agent puts 0xff before the answer to guest-sync-delimited.
        return json.loads(line.lstrip(b"\xff"))
