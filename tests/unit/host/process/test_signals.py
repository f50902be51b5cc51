"""Signals that wait until a driver is in its place again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from modulus.host.process.signals import deferred_signals


class EndedError(Exception):
    """What the handler raises."""


@pytest.fixture(autouse=True)
def ending() -> Iterator[None]:
    def end(number: int, _frame: FrameType | None) -> None:
        raise EndedError(number)

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_signal_takes_effect_afterwards() -> None:
    done = False
    with pytest.raises(EndedError), deferred_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        done = True
    assert done
    with pytest.raises(EndedError):
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_error_comes_through_where_there_was_no_signal() -> None:
    with pytest.raises(ValueError, match="mine"), deferred_signals():
        raise ValueError("mine")


def test_another_thread_changes_nothing() -> None:
    seen: list[object] = []

    def work() -> None:
        with deferred_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert seen == [before]
