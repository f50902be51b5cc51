"""Holds a shutdown while the next kernel's modules are built."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from modulus.agent.loop import Cancel, Loop
from modulus.core.wording import span
from modulus.errors import ModulusError
from modulus.host.process.spawn import spawn
from modulus.host.report.reporter import Reporter
from modulus.host.status.shutdown_delay import claim, claimed, lock_command

_READ_AGAIN = (0.2, 0.5, 1.0, 3.0)
"""Seconds between looks at logind's limit, which reads its files some time after a signal."""

_PATIENCE = 30.0
"""Seconds without an answer after which logind is given up."""


class Logind(Protocol):
    """What a hold asks of the bus; answers come by the main loop, none from a lost bus."""

    def ask_inhibit_delay(self, told: Callable[[float], object]) -> object:
        """Tells the seconds that a lock may delay a shutdown; nothing without a logind."""

    def reload_logind(self, failed: Callable[[ModulusError], object]) -> object:
        """Has logind read its configuration again."""


class RebootHold:
    """A delay lock of logind, held from ``take`` to ``release``, for at most ``seconds``.

    0 seconds mean no lock, and what was set up for one is removed; None means not known yet,
    until ``want`` says it. ``changed`` is called when ``really`` or ``text`` has changed.
    Nothing is done before ``attach`` brings a logind.
    """

    def __init__(
        self,
        root: Path,
        instance: str,
        seconds: float | None,
        loop: Loop,
        reporter: Reporter,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._root = root
        self._instance = instance
        self._seconds = seconds
        self._loop = loop
        self._reporter = reporter
        self._changed = changed
        self._logind: Logind | None = None
        self._really: float | None = None
        self._why = ""
        self._pid: int | None = None
        self._timer: Cancel | None = None
        self._limit: Cancel | None = None
        self._said: set[str] = set()

    @property
    def really(self) -> float | None:
        """Seconds that a shutdown can be held; None where that is not wanted or not known."""
        return self._really

    @property
    def text(self) -> str:
        """What a status says of the hold; "" while nothing is held."""
        if self._pid is None or self._really is None:
            return ""
        return f"a reboot waits for it, up to {span(self._really)}"

    def attach(self, logind: Logind) -> None:
        """Takes ``logind``: there is a bus now."""
        self._logind = logind
        self._set_up()

    def detach(self) -> None:
        """Goes on without the bus. A lock stays: logind keeps locks over a restart."""
        self._logind = None
        self._rest(None)

    def want(self, seconds: float) -> None:
        """Takes ``seconds``, the setting's value now."""
        if seconds != self._seconds:
            self._seconds = seconds
            self._said.clear()
            if seconds == 0:
                self._end_lock()
            self._set_up()

    def take(self, why: str) -> None:
        """Has a shutdown wait; ``why`` is what ``systemd-inhibit --list`` shows of it."""
        self._why = why
        if self._pid is not None or not self._really:
            return
        command = lock_command(why)
        if command is None:
            self._warn_once("no reboot is held: systemd-inhibit is not installed")
            return
        pid = self._pid = spawn(command)
        self._loop.child(pid, lambda code: self._ended(pid, code))
        self._changed()

    def release(self) -> None:
        """Lets a shutdown go on."""
        self._why = ""
        self._end_lock()

    def shutdown(self, begun: bool) -> None:
        """Handles logind's message that a shutdown begins, or that it is off."""
        self._limited(None)
        if begun and self._pid is not None and self._seconds:
            self._reporter.phase("wait", f"a shutdown waits for {self._why}: {self.text}")
            seconds = self._seconds
            self._limited(self._loop.after(seconds, lambda: self._too_long(seconds)))

    def stop(self) -> None:
        """Ends the hold; logind's configuration stays until the next boot."""
        self.detach()
        self.release()

    def _set_up(self) -> None:
        if self._logind is None or self._seconds is None:
            return
        self._rest(None)
        if self._seconds > 0:
            seconds = self._seconds
            self._ask(lambda delay: self._allow(seconds, delay))
            return
        self._learn(None)
        if self._claim(0):
            self._reload()

    def _ask(self, told: Callable[[float], object]) -> None:
        """Asks logind for its limit; an answer after another ``want`` is dropped."""
        seconds = self._seconds

        def answered(delay: float) -> None:
            if self._seconds == seconds:
                self._rest(None)
                told(delay)

        if self._logind is not None:
            silent = "no reboot is held: logind does not answer"
            self._rest(self._loop.after(_PATIENCE, lambda: self._warn_once(silent)))
            self._logind.ask_inhibit_delay(answered)

    def _allow(self, seconds: float, delay: float) -> None:
        """Has logind wait long enough, and learns how long it will."""
        ours = self._instance in claimed(self._root)
        # A limit that is long enough by itself needs no claim, which might lower it.
        if (delay < seconds or ours) and self._claim(seconds):
            self._reload()
            self._look_again(seconds, list(_READ_AGAIN))
        else:
            self._judge(seconds, delay)

    def _look_again(self, seconds: float, pauses: list[float]) -> None:
        def answered(delay: float) -> None:
            if delay < seconds and pauses:
                self._look_again(seconds, pauses)
            else:
                self._judge(seconds, delay)

        self._rest(self._loop.after(pauses.pop(0), lambda: self._ask(answered)))

    def _judge(self, seconds: float, delay: float) -> None:
        if delay < seconds:
            self._warn_once(
                f"a reboot can be held for {span(delay)} only, hold_reboot wants "
                f"{span(seconds)}: another file sets InhibitDelayMaxSec, see "
                "systemd-analyze cat-config systemd/logind.conf"
            )
        self._learn(min(delay, seconds))
        if self._why:
            self.take(self._why)

    def _learn(self, really: float | None) -> None:
        if really != self._really:
            self._really = really
            self._changed()

    def _claim(self, seconds: float) -> bool:
        try:
            return claim(self._root, self._instance, seconds)
        except (ModulusError, OSError) as error:
            self._warn_once(f"logind cannot be told of hold_reboot: {error}")
            return False

    def _reload(self) -> None:
        if self._logind is not None:
            self._logind.reload_logind(lambda error: self._warn_once(error.message))

    def _too_long(self, seconds: float) -> None:
        self._reporter.warn(
            f"a shutdown was held for {span(seconds)}, as hold_reboot says, and goes "
            f"on without {self._why}"
        )
        self._end_lock()

    def _end_lock(self) -> None:
        self._limited(None)
        if self._pid is not None:
            pid, self._pid = self._pid, None
            # A child that has just ended is not reaped yet, so its pid is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            self._changed()

    def _ended(self, pid: int, code: int) -> None:
        if pid != self._pid:
            return
        self._pid = None
        self._warn_once(f"no reboot is held: systemd-inhibit ended with status {code}")
        self._changed()

    def _warn_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._reporter.warn(text)

    def _rest(self, timer: Cancel | None) -> None:
        """Replaces the timer that asks logind again with ``timer``."""
        if self._timer:
            self._timer()
        self._timer = timer

    def _limited(self, timer: Cancel | None) -> None:
        """Replaces the timer that ends the lock with ``timer``."""
        if self._limit:
            self._limit()
        self._limit = timer
