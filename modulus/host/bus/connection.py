"""The agent's own connection to the system bus, which asks and listens."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

from modulus.core.status.boot_hold import UnitState
from modulus.errors import ModulusError
from modulus.host.bus import endpoint, logind, systemd, updates
from modulus.host.bus.calls import PROPERTIES, Peer, explain, explained
from modulus.host.bus.unitwatch import UnitWatch

Cancel = Callable[[], None]
Dispatch = Callable[[Callable[[], object]], object]
"""Calls something from the main loop soon, as ``Loop.after(0, ...)`` does."""

_DO_NOT_QUEUE = 4
_OWNED = (1, 4)
"""DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER and _ALREADY_OWNER."""


class SystemBus:
    """An open connection, used from the main loop's thread.

    Every callback comes through ``dispatch``, and none after ``close`` or the connection's end;
    ``lost`` is called once at that end. A subscription lasts until it is cancelled, or as long
    as the connection. Only ``publish`` and ``systemd`` wait for an answer.
    """

    def __init__(self, connection: Any, dispatch: Dispatch, lost: Callable[[], object]) -> None:
        self._connection = connection
        self._bus = connection.pydbus
        self._dispatch = dispatch
        self._lost = lost
        self.systemd = systemd.Systemd(connection)
        """For calls that wait for their answer."""
        self._peer = Peer(connection, systemd.SERVICE)
        self._units: list[UnitWatch] = []
        self._stack = contextlib.ExitStack()
        self._reloading: list[Callable[[bool], object]] = []
        self._seen = False
        self._open = True
        number = connection.connect("closed", self._closed)
        self._stack.callback(connection.disconnect, number)
        self._subscribe(systemd, systemd.PATH, systemd.MANAGER, "Reloading", self._reloads)
        self._watch(systemd.SERVICE, self._systemd_came)

    def close(self) -> None:
        """Leaves the bus; ``lost`` is not called."""
        if self._open:
            self._open = False
            self._stack.close()
            self._connection.close(None, None)

    def on_reloading(self, callback: Callable[[bool], object]) -> Cancel:
        """Calls back with True when systemd begins to reload its units, False when it has.

        Also False when systemd comes anew on the bus (daemon-reexec, a restart of dbus).
        """
        self._reloading.append(callback)

        def cancel() -> None:
            if callback in self._reloading:
                self._reloading.remove(callback)

        return cancel

    def on_shutdown(self, callback: Callable[[bool], object]) -> Cancel:
        """Tells True when logind begins a shutdown, held or not; False if it is off."""
        return self._subscribe(
            logind, logind.PATH, logind.MANAGER, "PrepareForShutdown", callback
        )

    def on_update(self, callback: Callable[[str, str], object]) -> Cancel:
        """Calls back with Flatcar's update status and new version, now and on change."""

        def tell(*values: Any) -> None:
            callback(*updates.status_and_version(values))

        def came(_: str) -> None:
            peer = Peer(self._connection, updates.SERVICE)
            peer.ask(updates.PATH, updates.MANAGER, "GetStatus", answered=self._later(tell))

        told = self._subscribe(updates, updates.PATH, updates.MANAGER, "StatusUpdate", tell)
        watched = self._watch(updates.SERVICE, came)

        def cancel() -> None:
            told()
            watched()

        return cancel

    def on_unit(self, name: str, callback: Callable[[UnitState], object]) -> Cancel:
        """Calls back with the state of the service ``name`` soon, and with each new state.

        The state in which it came to rest stays, even once systemd has forgotten the unit.
        """
        watch = UnitWatch(name, self._peer, self._later, callback)
        told = self._subscribe(
            systemd, watch.path, PROPERTIES, "PropertiesChanged", watch.changed
        )
        self._units.append(watch)
        watch.ask()

        def cancel() -> None:
            told()
            if watch in self._units:
                self._units.remove(watch)

        return cancel

    def start_unit(self, name: str, failed: Callable[[ModulusError], object]) -> None:
        """Starts the unit ``name`` without waiting for it; fine if it runs."""
        self._manage(f"cannot start {name}", failed, "StartUnit", "(ss)", name, "replace")

    def reload_logind(self, failed: Callable[[ModulusError], object]) -> None:
        """Makes logind read its settings anew."""
        number = int(signal.SIGHUP)
        self._manage(
            "logind cannot be told of its settings",
            failed,
            *("KillUnit", "(ssi)", logind.UNIT, "main", number),
        )

    def ask_inhibit_delay(self, told: Callable[[float], object]) -> None:
        """Tells how many seconds logind lets locks delay a shutdown; nothing without logind."""
        Peer(self._connection, logind.SERVICE, start=True).ask(
            logind.PATH,
            PROPERTIES,
            "Get",
            *("(ss)", logind.MANAGER, "InhibitDelayMaxUSec"),
            answered=self._later(lambda microseconds: told(microseconds / 1e6)),
        )

    def publish(self, name: str, path: str, served: object) -> None:
        """Serves ``served``, an object as pydbus publishes them, at ``path`` of ``name``.

        ModulusError where another process has the name or it is not allowed.
        """
        what = f"cannot be {name} on the bus"
        with explained(what), contextlib.ExitStack() as stack:
            stack.enter_context(self._bus.register_object(path, served, None))
            # Not through pydbus, which would wait for the answer without an end.
            bus = Peer(self._connection, "org.freedesktop.DBus")
            answer = bus.call(
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "RequestName",
                "(su)",
                name,
                _DO_NOT_QUEUE,
            )
            if answer[0] not in _OWNED:
                raise ModulusError(
                    f"{what}: another process is", "see busctl status of that name"
                )
            self._stack.push(stack.pop_all())

    def _later(self, callback: Callable[..., object]) -> Callable[..., object]:
        """``callback`` by way of the main loop, which handles what it raises."""
        return lambda *values: self._dispatch(lambda: self._open and callback(*values))

    def _subscribe(
        self,
        module: Any,
        path: str,
        interface: str,
        member: str,
        callback: Callable[..., object],
    ) -> Cancel:
        later = self._later(callback)
        subscription = self._bus.subscribe(
            sender=module.SERVICE,
            object=path,
            iface=interface,
            signal=member,
            signal_fired=lambda *told: later(*told[4]),
        )
        self._stack.push(subscription)
        return lambda: subscription.unsubscribe()

    def _watch(self, name: str, came: Callable[[str], object]) -> Cancel:
        watch = self._bus.watch_name(name, name_appeared=self._later(came))
        self._stack.push(watch)
        return lambda: watch.unwatch()

    def _systemd_came(self, _: str) -> None:
        # Without this call systemd sends no signals.
        self._peer.ask(systemd.PATH, systemd.MANAGER, "Subscribe")
        if self._seen:
            for watch in self._units:
                watch.ask()
            self._reloads(False)
        self._seen = True

    def _manage(
        self, what: str, failed: Callable[[ModulusError], object], member: str, *given: Any
    ) -> None:
        refused = self._later(lambda error: failed(explain(error, what)))
        self._peer.ask(systemd.PATH, systemd.MANAGER, member, *given, failed=refused)

    def _reloads(self, begun: bool) -> None:
        for callback in tuple(self._reloading):
            callback(begun)

    def _closed(self, *_: object) -> None:
        self._open = False
        self._stack.close()
        self._dispatch(self._lost)


def connect(
    address: str,
    dispatch: Dispatch,
    opened: Callable[[SystemBus], object],
    failed: Callable[[ModulusError], object],
    lost: Callable[[], object],
) -> Cancel:
    """Connects to the bus at ``address`` without waiting; ``opened`` or ``failed`` follows.

    Neither is called once the attempt is cancelled.
    """
    from gi.repository import Gio, GLib

    endpoint.extend_connections()

    cancelled = Gio.Cancellable()
    kinds = Gio.DBusConnectionFlags

    def unless_cancelled(callback: Callable[[], object]) -> Callable[[], object]:
        return lambda: cancelled.is_cancelled() or callback()

    def done(_: Any, result: Any) -> None:
        try:
            connection = Gio.DBusConnection.new_for_address_finish(result)
        except GLib.Error as error:
            cause = explain(error, "cannot reach the system bus")
            dispatch(unless_cancelled(lambda: failed(cause)))
            return
        bus = SystemBus(connection, dispatch, unless_cancelled(lost))
        dispatch(lambda: bus.close() if cancelled.is_cancelled() else opened(bus))
        if connection.is_closed():
            # It closed before anybody listened.
            connection.emit("closed", True, None)

    Gio.DBusConnection.new_for_address(
        address,
        kinds.AUTHENTICATION_CLIENT | kinds.MESSAGE_BUS_CONNECTION,
        None,
        cancelled,
        done,
    )
    return lambda: cancelled.cancel()
