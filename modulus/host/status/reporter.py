"""Keeps the live state in /run and systemd's view of the unit current while work goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from modulus.core.findings import Finding
from modulus.core.status.meter import progress_text
from modulus.core.status.state import Failure, KernelReady, State
from modulus.core.status.text import status_text, stopped
from modulus.errors import LockedError, ModulusError
from modulus.host.report.clock import rfc3339
from modulus.host.report.notify import Notifier, make_notifier
from modulus.host.report.reporter import Reporter, Stopwatch
from modulus.host.status.files import clear_state, is_anothers, read_state, write_state

EXTEND = 180.0
"""Seconds that systemd is asked for at each sign of progress; the unit's TimeoutStartSec."""

_EVERY = 1.0
"""Seconds between messages while something counts up."""


class StatusReporter:
    """A reporter that also reports in the state file and, if there is one, to systemd.

    A context manager: an exception that ends the work becomes its state. Trouble with
    the state file is a warning, once; it is worth no failure.
    """

    def __init__(
        self,
        inner: Reporter,
        root: Path,
        instance: str,
        *,
        selected: bool = False,
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._root = root
        self._notifier = notifier or make_notifier()
        self._clock = clock
        self._now = now
        self._stopwatch = Stopwatch(clock)
        self._told = self._extended = clock() - _EVERY
        self._said: set[str] = set()
        self._counted = 0
        self._broken = False
        earlier = read_state(root, instance) or State(instance, None)
        # The old state stays until there is a new one.
        self._state = replace(earlier, selected=selected, error=None)
        inner.about(instance=instance)

    def __enter__(self) -> StatusReporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, LockedError) and is_anothers(self._root, self._state.instance):
            # The other process holds the lock.
            return
        if isinstance(error, ModulusError):
            self.failed(error)
        elif isinstance(error, Exception):
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            self.failed(ModulusError(text, f"see modulus up {self._state.instance} -v"))
        elif error is not None:
            self._stop()

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        self._inner.about(instance=instance, key=key)
        if key is not None:
            self._state = replace(self._state, key=key)

    def phase(self, phase: str, text: str) -> None:
        self._inner.phase(phase, text)
        line = "; ".join(f"{phase}: {text}".splitlines())
        if phase == "wait":
            # For a lock: the state is that of whoever holds it.
            self._notifier.send(status=line)
            return
        # A line that was said before in this phase is no progress: what is tried again and
        # again must come to an end.
        if phase != self._state.phase:
            self._said.clear()
        real = line not in self._said
        self._said.add(line)
        self._enter(phase)
        self._tell(line, real=real)

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        self._inner.progress(phase, done, total, unit)
        count, left = self._stopwatch.count(phase, done, total, unit)
        fresh = phase != self._state.phase
        if fresh or done < self._counted:
            # Counting starts over, which by itself is no progress.
            self._counted = done
        self._enter(phase)
        if fresh or self._clock() - self._told >= _EVERY:
            real = fresh or done > self._counted
            self._counted = done
            share = count.done / count.total if count.total else None
            self._state = replace(self._state, progress=share, eta_s=left)
            self._tell(progress_text(count, left), real=real)

    def warn(self, text: str) -> None:
        self._inner.warn(text)

    def error(self, text: str) -> None:
        self._inner.error(text)

    def finish(
        self,
        *,
        phase: str = "ready",
        active: bool,
        selected: bool,
        key: str | None = None,
        generation: str | None = None,
        kernels: Sequence[KernelReady] = (),
        findings: Sequence[Finding] = (),
    ) -> None:
        """Reports the result: ``ready``, or ``wait`` for a GPU once all else is done."""
        self._enter(phase)
        self._state = replace(
            self._state,
            active=active,
            selected=selected,
            key=key,
            generation=generation,
            kernels=tuple(kernels),
            findings=tuple(findings),
        )
        self._tell(status_text(self._state), real=True)

    def failed(self, error: ModulusError) -> None:
        """Reports why the work failed."""
        self._enter("failed")
        self._state = replace(self._state, error=Failure.of(error))
        self._tell(status_text(self._state), real=False)

    def _stop(self) -> None:
        ended = stopped(self._state)
        try:
            if ended is None:
                clear_state(self._root, self._state.instance)
            else:
                write_state(self._root, ended)
        except (ModulusError, OSError) as error:
            self._complain(error)

    def _enter(self, phase: str) -> None:
        if phase != self._state.phase:
            since = rfc3339(self._now())
            self._state = replace(
                self._state, phase=phase, progress=None, eta_s=None, since=since
            )

    def _tell(self, status: str, *, real: bool) -> None:
        """Writes the state and tells systemd; ``real`` progress asks it for more time."""
        now = self._told = self._clock()
        extend = real and now - self._extended >= _EVERY
        if extend:
            self._extended = now
        try:
            write_state(self._root, self._state)
        except (ModulusError, OSError) as error:
            self._complain(error)
        self._notifier.send(status=status, extend=EXTEND if extend else None)

    def _complain(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            self._inner.warn(f"the state is not shown: {error}")
