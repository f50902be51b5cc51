"""The main loop itself."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import tests.support.mainloop  # noqa: F401 - imports GLib with its warning left out
from modulus.agent.loop import Loop


def fail() -> None:
    raise ValueError("a bug")


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.001])
def test_it_waits(seconds: float) -> None:
    loop = Loop()
    loop.after(seconds, lambda: loop.end(7))
    assert loop.run() == 7


@pytest.mark.parametrize("seconds", [2**32, 1e300, float("inf")])
def test_it_waits_for_any_time(seconds: float) -> None:
    """A hundred days of ``hold_reboot``, say: more milliseconds than GLib counts."""
    loop = Loop()
    cancel = loop.after(seconds, fail)
    loop.after(0, lambda: loop.end(7))
    assert loop.run() == 7
    cancel()


def ours(loop: Loop) -> None:
    loop.after(0, fail)


def glibs(_: Loop) -> None:
    from gi.repository import GLib

    def called() -> bool:
        fail()
        return False

    GLib.timeout_add(0, called)


@pytest.mark.parametrize("begin", [ours, glibs])
def test_what_a_callback_raises_ends_it(begin: Callable[[Loop], None]) -> None:
    loop = Loop()
    begin(loop)
    with pytest.raises(ValueError, match="a bug"):
        loop.run()


@pytest.mark.parametrize("begin", [ours, glibs])
def test_it_survives_what_a_callback_raises(begin: Callable[[Loop], None]) -> None:
    loop = Loop()
    told: list[Exception] = []

    def trouble(error: Exception) -> None:
        told.append(error)
        loop.after(0, lambda: loop.end(7))

    loop.survive(trouble)
    begin(loop)
    assert loop.run() == 7
    assert list(map(repr, told)) == ["ValueError('a bug')"]


def test_who_is_told_may_end_it() -> None:
    loop = Loop()

    def trouble(error: Exception) -> None:
        raise KeyError("too many") from error

    loop.survive(trouble)
    loop.after(0, fail)
    with pytest.raises(KeyError, match="too many"):
        loop.run()


def test_what_is_for_rest_comes_last() -> None:
    """Also behind what never ends."""
    loop = Loop()
    happened: list[str] = []
    read, write = os.pipe()
    os.write(write, b"x" * 50)

    def work() -> None:
        if happened.count("work") < 50:
            happened.append("work")
        else:
            cancel()

    def rest() -> None:
        happened.append("rest")
        loop.end(7)

    cancel = loop.readable(read, work)
    loop.at_rest(rest)
    loop.after(0, lambda: happened.append("timer"))
    assert loop.run() == 7
    os.close(read)
    os.close(write)
    assert happened[-1] == "rest"
    assert (happened.count("work"), happened.count("timer")) == (50, 1)
