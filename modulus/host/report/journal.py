"""Writes entries with fields to the system's journal, in its native protocol.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/: one datagram an entry. journald itself adds which
process it came from.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

SOCKET = "/run/systemd/journal/socket"


class Journal:
    """The journal behind ``path``; each entry gets the fields ``always`` too."""

    def __init__(self, path: str = SOCKET, always: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._always = always or {}
        self._socket: socket.socket | None = None

    def send(self, fields: Mapping[str, str]) -> bool:
        """Adds an entry; False where the journal did not take it."""
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # Not connected: a journald that was restarted may have another socket.
            self._socket.sendto(encode({**self._always, **fields}), self._path)
            return True
        return False

    def close(self) -> None:
        """Closes the socket; it is made again if need be."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def encode(fields: Mapping[str, str]) -> bytes:
    """An entry as a datagram: ``NAME=VALUE`` lines; values of several lines with their length,
    64 bits little-endian, before them."""
    entry = bytearray()
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            entry += name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
        else:
            entry += name.encode() + b"=" + data + b"\n"
    return bytes(entry)
