"""Listens to the kernel's messages about devices, without udev."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from modulus.core.gpu.uevent import Uevent, parse_uevent

_NETLINK_KOBJECT_UEVENT = 15
_FROM_KERNEL = 1
"""The group of the kernel's own messages; udevd's are in 2."""

_LARGEST = 1 << 16
_MOST = 1000
"""Messages that are taken at once."""


class Uevents:
    """A queue of messages since it was made; ``channel`` may stand in for the kernel's."""

    def __init__(self, channel: socket.socket | None = None) -> None:
        self._socket = channel or _open()
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """For a main loop: readable when there is something to take."""
        return self._socket.fileno()

    def take(self) -> Iterator[Uevent | None]:
        """What has come since the last time; None where some were lost: the queue was full.

        It takes 1,000 at most, since more may come meanwhile; the rest is for the next time.
        """
        for _ in range(_MOST):
            try:
                data, sender = self._socket.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                # ENOBUFS, netlink(7); what is queued can be read the next time.
                yield None
                return
            # Any privileged process may send to the group; the kernel's address is zero.
            if isinstance(sender, tuple) and sender[0] != 0:
                continue
            event = parse_uevent(data)
            if event is not None:
                yield event

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()


def _open() -> socket.socket:
    """OSError where the kernel, or what stands in for it, has no such socket."""
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    channel = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
    try:
        channel.bind((0, _FROM_KERNEL))
    except OSError:
        channel.close()
        raise
    return channel
