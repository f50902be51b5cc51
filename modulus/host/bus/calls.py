"""Calls over the bus, each with a time limit, and what their failures mean to a person."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from modulus.errors import LockedError, ModulusError, UsageError

CALL_SECONDS = 25.0
"""How long a call waits for its answer; also the default of libdbus and GLib."""

PROPERTIES = "org.freedesktop.DBus.Properties"

_REMOTE = re.compile(r"GDBus\.Error:([\w.]+): (.*)", re.DOTALL)
_DENIED = (
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
)
_SILENT = ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout")


class Peer:
    """A service on the bus, called by name without a look at its interfaces first.

    pydbus would fetch and parse them (for systemd 150 kB of XML), which a boot need not wait
    for. With ``start`` false a call does not start a service that does not run.
    """

    def __init__(
        self, connection: Any, name: str, *, start: bool = False, seconds: float | None = None
    ) -> None:
        self._connection = connection
        self._name = name
        self._start = start
        self._seconds = seconds

    def call(
        self, path: str, interface: str, member: str, signature: str = "()", *arguments: Any
    ) -> tuple[Any, ...]:
        """Calls and waits for the answer; raises GLib.Error, see ``explained``."""
        answer = self._connection.call_sync(
            *self._message(path, interface, member, signature, arguments), None
        )
        return tuple(answer.unpack())

    def get(self, path: str, interface: str, name: str) -> Any:
        """The property ``name``."""
        return self.call(path, PROPERTIES, "Get", "(ss)", interface, name)[0]

    def get_all(self, path: str, interface: str) -> dict[str, Any]:
        """All properties, of one moment."""
        return dict(self.call(path, PROPERTIES, "GetAll", "(s)", interface)[0])

    def ask(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "()",
        *arguments: Any,
        answered: Callable[..., object] = lambda *_: None,
        failed: Callable[[Any], object] = lambda _: None,
    ) -> None:
        """Calls without waiting: ``answered`` gets the answer, ``failed`` the GLib.Error."""
        from gi.repository import GLib

        def done(connection: Any, result: Any) -> None:
            try:
                answer = connection.call_finish(result)
            except GLib.Error as error:
                failed(error)
            else:
                answered(*answer.unpack())

        self._connection.call(
            *self._message(path, interface, member, signature, arguments), None, done
        )

    def _message(
        self, path: str, interface: str, member: str, signature: str, arguments: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        from gi.repository import Gio, GLib

        kinds = Gio.DBusCallFlags
        given = GLib.Variant(signature, arguments)
        milliseconds = round(1000 * (self._seconds or CALL_SECONDS))
        message = (self._name, path, interface, member, given)
        flags = kinds.NONE if self._start else kinds.NO_AUTO_START
        return (*message, None, flags, milliseconds)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns GLib's errors into ours; ``what`` is what could not be done.

    UsageError where the caller may not do it, LockedError where nothing answers in time,
    ModulusError for anything else that the bus reports.
    """
    from gi.repository import GLib

    try:
        yield
    except GLib.Error as error:
        raise explain(error, what) from error


def explain(error: Any, what: str) -> ModulusError:
    """What a GLib.Error means; see ``explained``."""
    from gi.repository import Gio

    # What a peer reports reads "GDBus.Error:NAME: TEXT", g_dbus_error_encode_gerror().
    remote = _REMOTE.fullmatch(error.message)
    name, cause = remote.groups() if remote else ("", error.message)
    if name in _DENIED:
        return UsageError(f"{what}: {cause}", "run it as root")
    if name in _SILENT or error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.TIMED_OUT):
        return LockedError(
            f"{what}: no answer within {CALL_SECONDS:.0f} s",
            "see whether systemctl answers, then run the same command again",
        )
    return ModulusError(
        f"{what}: {cause}", "see whether systemctl status answers, and journalctl -b"
    )
