"""What the agent does when: after each ``up``, on signals, when a GPU comes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from modulus.agent.loop import Cancel, Loop
from modulus.agent.record import Record
from modulus.core.backoff import PERMANENT, Backoff
from modulus.core.dataclass import dataclass
from modulus.core.pci import PciMatch, devices_of
from modulus.core.state import Failure, State
from modulus.core.statustext import status_text, stopped
from modulus.core.uevent import pci_device
from modulus.core.units import rfc3339
from modulus.errors import LockedError, ModulusError
from modulus.host.live import EXTEND
from modulus.host.notify import Notifier
from modulus.host.report import Reporter
from modulus.host.spawn import spawn
from modulus.host.statefile import clear_state, is_anothers, read_state, write_state
from modulus.host.uevents import Uevents

_ACTIONS = frozenset({"add", "remove", "bind", "unbind"})
"""Messages of the kernel after which a GPU may be free for the driver."""


@dataclass(frozen=True)
class Task:
    """What to keep up: ``command`` with ``env`` brings ``instance`` up, once.

    ``inputs`` gives a digest of what it is made from, ``gpus`` what a GPU is, ``uevents``
    opens the kernel's messages. While nothing can be done but wait, inputs are looked at every
    ``poll`` seconds; ``settle`` are those after a GPU's message, since there may be several.
    Without the kernel's messages GPUs are looked for every ``census`` seconds.
    """

    root: Path
    instance: str
    command: Sequence[str]
    env: Mapping[str, str]
    inputs: Callable[[], str]
    gpus: Callable[[], Sequence[PciMatch]]
    uevents: Callable[[], Uevents] = Uevents
    backoff: Backoff = field(default_factory=Backoff)
    poll: float = 30.0
    census: float = 300.0
    settle: float = 1.0


class Agent:
    """Runs a task's command until it succeeds, and again when there is a reason."""

    def __init__(
        self,
        task: Task,
        loop: Loop,
        notifier: Notifier,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task = task
        self._loop = loop
        self._notifier = notifier
        self._reporter = reporter
        self._clock = clock
        self._record = Record(task.root, task.instance, self._complain)
        self._pid: int | None = None
        self._uevents: Uevents | None = None
        self._listening: Cancel | None = None
        self._timer: Cancel | None = None
        self._stopping = False
        self._again = False
        self._said: set[str] = set()

    def run(self, watchdog: float | None) -> int:
        """Stays until told to end, or until there is nothing more to try: an exit code.

        ``watchdog``: send one every that many seconds, from the loop itself.
        """
        ending, again = (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP,)
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*ending, *again))
        try:
            # First, so that it does not wait for what the loop itself takes to begin.
            self._start()
            self._loop.on_signals(ending, self._stop)
            self._loop.on_signals(again, self._start)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        if watchdog is not None:
            self._loop.every(watchdog, lambda: self._notifier.send(watchdog=True))
        return self._loop.run()

    def _start(self) -> None:
        """Has the command run; once more after it where it runs already."""
        if self._stopping:
            return
        if self._pid is not None:
            self._again = True
            return
        self._rest(None)
        # Open before the command looks for GPUs, or one that comes just then would be missed.
        self._ignore_gpus()
        with contextlib.suppress(OSError):
            self._uevents = self._task.uevents()
        self._pid = spawn(self._task.command, env=self._task.env)
        self._loop.child(self._pid, self._ended)

    def _ended(self, code: int) -> None:
        self._pid = None
        if self._stopping:
            self._end()
        elif self._again:
            self._again = False
            self._start()
        elif code == 0:
            self._succeeded()
        elif code in PERMANENT:
            state = self._enter(_with_error(self._state(), code), "failed")
            # Said again: systemd drops the last words of a process that is gone already.
            self._notifier.send(status=status_text(state))
            self._loop.end(code)
        else:
            self._failed(code)

    def _succeeded(self) -> None:
        state = self._state(active=True)
        # What waits and has ended waits for a GPU: the watching is ours.
        waiting = state.phase in ("wait", None)
        state = self._in_phase(replace(state, error=None), "wait" if waiting else "watch")
        # First: whatever becomes of our own files, the driver is there.
        self._notifier.send(ready=True, status=status_text(state))
        self._record.clear()
        self._write(state)
        if waiting:
            self._await_gpu()
        else:
            self._ignore_gpus()

    def _failed(self, code: int) -> None:
        """Waits, ever longer, for time to pass or for something to change."""
        self._ignore_gpus()
        inputs = self._task.inputs()
        count = self._record.failed(inputs)
        delay = self._task.backoff.delay(count, code)
        due = self._clock() + delay
        state = _with_error(self._state(), code)
        cause = state.error.message.splitlines()[0] if state.error else ""
        if code < 0 and state.error:
            # It could not say so itself.
            self._reporter.error(f"modulus: error: {cause}")
            self._reporter.error(f"modulus: hint: {state.error.hint}")
        self._reporter.phase(
            "wait",
            f"{_span(delay)} before the next try ({count} failed), less if settings, profiles "
            "or kernels change",
        )

        def look() -> None:
            left = due - self._clock()
            if left <= 0 or self._task.inputs() != inputs:
                self._start()
                return
            self._enter(replace(state, eta_s=left), "wait")
            self._notifier.send(
                status=f"wait: {_span(left)} to the next try, for {cause}",
                extend=self._task.poll + EXTEND,
            )
            self._rest(self._loop.after(min(left, self._task.poll), look))

        look()

    def _await_gpu(self) -> None:
        if self._uevents is None:
            self._warn_once(
                "the kernel does not tell when a GPU is plugged in: looked for every "
                f"{_span(self._task.census)}"
            )
            self._rest(self._loop.after(self._task.census, self._start))
            return
        self._reporter.phase("wait", "for a GPU to be plugged in")
        wanted = tuple(self._task.gpus())
        # What the command itself did to other GPUs is no news.
        self._read_uevents(wanted, frozenset({"add"}))
        self._listening = self._loop.readable(
            self._uevents.fileno(), lambda: self._read_uevents(wanted, _ACTIONS)
        )

    def _read_uevents(self, wanted: Sequence[PciMatch], actions: frozenset[str]) -> None:
        for event in self._uevents.take() if self._uevents else ():
            device = pci_device(event) if event else None
            if event is None:
                self._reporter.phase("wait", "some messages of the kernel were lost; looking")
            elif device and event.action in actions and devices_of(wanted, [device]):
                self._reporter.phase("wait", f"the kernel says: {event.action} {device}")
            else:
                continue
            self._rest(self._loop.after(self._task.settle, self._start))

    def _ignore_gpus(self) -> None:
        if self._listening:
            self._listening()
            self._listening = None
        if self._uevents:
            self._uevents.close()
            self._uevents = None

    def _rest(self, timer: Cancel | None) -> None:
        """Has only ``timer`` wake us, of those there were."""
        if self._timer:
            self._timer()
        self._timer = timer

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._notifier.send(stopping=True, status="stopping; the driver stays as it is")
        self._rest(None)
        self._ignore_gpus()
        if self._pid is None:
            self._end()
        else:
            os.kill(self._pid, signal.SIGTERM)

    def _end(self) -> None:
        self._write(stopped(self._state()))
        self._loop.end(0)

    def _state(self, *, active: bool = False) -> State:
        """What the command has left; without a word of it, no more than that it is over."""
        held = None
        try:
            held = read_state(self._task.root, self._task.instance)
        except (ModulusError, OSError) as error:
            self._complain(error)
        return held or State(self._task.instance, "ready", active=active, selected=active)

    def _enter(self, state: State, phase: str) -> State:
        state = self._in_phase(state, phase)
        self._write(state)
        return state

    def _in_phase(self, state: State, phase: str) -> State:
        if phase == state.phase:
            return state
        return replace(state, phase=phase, since=rfc3339(time.time()))

    def _write(self, state: State | None) -> None:
        """Makes ``state`` the one in /run, but not over that of another process at work."""
        root, instance = self._task.root, self._task.instance
        try:
            if is_anothers(root, instance):
                return
            if state is None:
                clear_state(root, instance)
            else:
                write_state(root, state)
        except (ModulusError, OSError) as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Trouble with our own files is worth no failure."""
        self._warn_once("the state is not kept", f": {error}")

    def _warn_once(self, text: str, more: str = "") -> None:
        if text not in self._said:
            self._said.add(text)
            self._reporter.warn(text + more)


def _with_error(state: State, code: int) -> State:
    """``state`` with what is known of the failure, if only its exit code."""
    if state.error is not None and (state.error.code == code or code < 0):
        return state
    if code == LockedError.code:
        text = f"another process is at work on {state.instance}"
        return replace(state, error=Failure(code, text, "wait for it to end"))
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
    hint = f"see journalctl -u modulus@{state.instance}"
    return replace(
        state, error=Failure(max(code, ModulusError.code), f"up ended with {how}", hint)
    )


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"
