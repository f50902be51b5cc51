"""Hands over a program's output as it comes, until the program ends."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections.abc import Callable, Iterator, Mapping

_CHUNK = 1 << 16
_CHECK_SECONDS = 0.5


def pump(
    pid: int,
    sinks: Mapping[int, Callable[[bytes], object]],
    deadline: float | None,
    check: Callable[[], object] | None = None,
) -> bool:
    """Hands over the output from the handles until the program ``pid`` has ended.

    False when ``deadline`` (of the monotonic clock) came first. ``check`` is called twice a
    second. A daemon of the program may write to its pipes later; that is not waited for.
    """
    with selectors.DefaultSelector() as selector, _process(pid) as ended:
        for handle in sinks:
            selector.register(handle, selectors.EVENT_READ)
        if ended is not None:
            selector.register(ended, selectors.EVENT_READ)
        alive = ended is not None
        due = time.monotonic()
        while alive:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            left = None if deadline is None else deadline - now
            if check is not None:
                if now >= due:
                    check()
                    due = now + _CHECK_SECONDS
                left = min(left or _CHECK_SECONDS, _CHECK_SECONDS)
            for key, _ in selector.select(left):
                if key.fd == ended:
                    alive = False
                elif not _hand_over(key.fd, sinks[key.fd]):
                    selector.unregister(key.fd)
    for handle, sink in sinks.items():
        while _hand_over(handle, sink):
            pass
    return True


def _hand_over(handle: int, sink: Callable[[bytes], object]) -> bool:
    """Reads once; False at the end or where nothing is waiting."""
    try:
        data = os.read(handle, _CHUNK)
    except BlockingIOError:
        return False
    if data:
        sink(data)
    return bool(data)


@contextlib.contextmanager
def _process(pid: int) -> Iterator[int | None]:
    """A handle that becomes readable when ``pid`` ends; None where it already has."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
