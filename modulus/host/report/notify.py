"""Tells systemd how a service is doing, in the protocol of sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

from modulus.redact import redact_text

_SEND_SECONDS = 5.0
"""How long a message may wait for a service manager that is busy; then it is lost."""
_SPARE_SECONDS = 60.0
"""Seconds from the end of a silent step to the next sign of progress."""


class Notifier:
    """The service manager behind ``address``: a path, or ``@`` and an abstract name.

    With None, where nobody asked to be told, no message is sent.
    """

    def __init__(self, address: str | None) -> None:
        self._address = None if address is None else address.encode("utf-8", "surrogateescape")

    def send(
        self,
        *,
        status: str | None = None,
        ready: bool = False,
        stopping: bool = False,
        watchdog: bool = False,
        extend: float | None = None,
    ) -> bool:
        """Sends the arguments as one message; returns whether it was taken.

        ``status`` is a line for ``systemctl status``. ``extend`` asks for that many seconds
        until the next message, where a time limit on starting or stopping runs.
        """
        lines = [
            *(["READY=1"] if ready else ()),
            *(["STOPPING=1"] if stopping else ()),
            *(["WATCHDOG=1"] if watchdog else ()),
            *([f"EXTEND_TIMEOUT_USEC={round(extend * 1e6)}"] if extend is not None else ()),
            *([f"STATUS={_shown(status)}"] if status is not None else ()),
        ]
        if not self._address or not lines:
            return False
        address = b"\0" + self._address[1:] if self._address[:1] == b"@" else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
        ):
            channel.settimeout(_SEND_SECONDS)
            # Unconnected, poll(2) would call it writable even while the queue is full.
            channel.connect(address)
            channel.send("\n".join(lines).encode("utf-8", "replace"))
            return True
        return False


def _shown(status: str) -> str:
    return redact_text(" ".join(status.splitlines()))


def make_notifier(environ: Mapping[str, str] = os.environ) -> Notifier:
    """The notifier for whoever started this process."""
    return Notifier(environ.get("NOTIFY_SOCKET") or None)


def ask_for_time(seconds: float) -> None:
    """Tells whoever started this process that the next step may be silent for ``seconds``.

    Only for a step that ends by itself by then, or a hung start would never be ended.
    """
    make_notifier().send(extend=seconds + _SPARE_SECONDS)


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often to send ``watchdog``: twice in the time that sd_watchdog_enabled(3) tells,
    None where it is not wanted of this process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        limit = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return limit / 2e6 if limit > 0 else None
