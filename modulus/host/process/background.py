"""Runs work in a thread of its own, beside its owner's.

For work that waits for the network and the disk. The owner is the caller that needs the result.
The work ends with the owner's ``with``. Its exception is raised where the owner asks for the
result, so errors come in the order in which they would without a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from modulus.host.report.reporter import Reporter

_T = TypeVar("_T")


class SharedReporter:
    """A reporter for several threads; each says one thing at a time."""

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner
        self._lock = threading.Lock()

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        with self._lock:
            self._inner.about(instance=instance, key=key)

    def phase(self, phase: str, text: str) -> None:
        with self._lock:
            self._inner.phase(phase, text)

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        with self._lock:
            self._inner.progress(phase, done, total, unit)

    def warn(self, text: str) -> None:
        with self._lock:
            self._inner.warn(text)

    def error(self, text: str) -> None:
        with self._lock:
            self._inner.error(text)


class Aside(Generic[_T]):
    """``work``, done in a thread once it is started; a context manager that ends it.

    Its owner reports through the same ``reporter``. Unwanted work ends at its next report or
    sleep. Where it may wait for others (a server, a lock), ``patience`` limits the seconds that
    the owner waits for its end; such work must be safe to kill at any time.
    """

    def __init__(
        self,
        work: Callable[[Aside[_T]], _T],
        reporter: SharedReporter,
        *,
        patience: float | None = None,
    ) -> None:
        self._work = work
        self._patience = patience
        self._unwanted = threading.Event()
        self._awaited = threading.Event()
        self.reporter: Reporter = _Voice(reporter, self._unwanted, self._awaited)
        self._thread: threading.Thread | None = None
        self._results: list[_T] = []
        self._error: BaseException | None = None

    def __enter__(self) -> Aside[_T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unwanted.set()
        if self._thread:
            self._thread.join(self._patience)

    def start(self) -> None:
        """Begins the work, unless it has begun."""
        if self._thread:
            return
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> _T:
        """Waits for the work and returns its result; does it here if it was not started."""
        self._awaited.set()
        if self._thread:
            self._thread.join()
        else:
            self._run()
        if self._error:
            raise self._error
        return self._results[0]

    def sleep(self, seconds: float) -> None:
        """As time.sleep, for as long as the work is wanted."""
        if threading.current_thread() is not self._thread:
            time.sleep(seconds)
        elif self._unwanted.wait(seconds):
            raise _UnwantedError

    def _run(self) -> None:
        try:
            self._results.append(self._work(self))
        except BaseException as error:
            self._error = error


class _UnwantedError(BaseException):
    """Ends unwanted work; no Exception, which the work might handle as a failure."""


class _Voice:
    """The work's reporter: it drops progress until the owner waits for the result."""

    def __init__(
        self, shared: SharedReporter, unwanted: threading.Event, awaited: threading.Event
    ) -> None:
        self._shared = shared
        self._unwanted = unwanted
        self._awaited = awaited

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        self._heard().about(instance=instance, key=key)

    def phase(self, phase: str, text: str) -> None:
        self._heard().phase(phase, text)

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        heard = self._heard()
        if self._awaited.is_set():
            heard.progress(phase, done, total, unit)

    def warn(self, text: str) -> None:
        self._heard().warn(text)

    def error(self, text: str) -> None:
        self._heard().error(text)

    def _heard(self) -> SharedReporter:
        if self._unwanted.is_set():
            raise _UnwantedError
        return self._shared
